"""Keeps verdict records as Parquet files in a folder, and answers questions about them with DuckDB.

The folder is the one that ``live --out parquet:FOLDER`` writes, and stays open to other programs.
"""
