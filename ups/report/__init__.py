"""Reports on runs, made from the files that they left."""
