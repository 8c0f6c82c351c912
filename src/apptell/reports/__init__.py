"""Verdicts and evaluations in; tables, JSON lines, CSV, Parquet and HTML pages out."""
