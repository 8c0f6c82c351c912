"""Verdicts and flows in, records and their renderings out."""
