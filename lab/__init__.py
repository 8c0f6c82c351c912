"""Makes labelled recordings of real messaging traffic: ``python -m lab``."""
