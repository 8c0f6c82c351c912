"""Turns verdicts and flows into records, and writes them in the output forms."""
