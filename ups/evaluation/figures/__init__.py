"""Figures of the evaluation, one per file. Each function draws from tables or tensors and writes one PNG."""
