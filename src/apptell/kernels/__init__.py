"""Functions over arrays in, compiled functions out that are cached by everything they are made of."""
