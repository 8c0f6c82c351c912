"""The version of apptell."""

__version__ = "0.2.0.dev0"
