"""Multi-stage neural surrogates of PDEs, and the pipeline that trains, compares and reproduces them."""
