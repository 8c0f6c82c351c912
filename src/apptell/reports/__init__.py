"""HTML reports with figures, and their JSON and CSV files."""
