"""Seeds and options in; labelled recordings of real messaging traffic out. Run as ``python -m lab``."""
