"""Kinds of input: a module each, with its ``TARGET``."""
