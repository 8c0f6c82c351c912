"""How compiled kernels are cached."""
