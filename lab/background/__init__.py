"""The kinds of background traffic, all labelled ``other``."""

SHARES = {
    "web": 3,
    "api": 3,
    "stream": 2,
    "download": 2,
    "remote": 2,
    "names": 1,
    "mail": 2,
    "browser": 3,
}
"""Each kind's part of the background's flows."""
BACKGROUND = tuple(SHARES)
