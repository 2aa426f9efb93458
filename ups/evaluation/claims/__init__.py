"""The claims of the recipe, each answered from the results at hand."""
