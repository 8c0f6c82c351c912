"""Compiles functions over arrays with Numba, and caches the compiled code."""
