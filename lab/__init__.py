"""Seeds and options in; labelled recordings of real messaging traffic out: ``python -m lab``."""
