"""The trained surrogate as a library: states in, states out, and a clear no to what it was not trained for."""
