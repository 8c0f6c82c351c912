"""The web application of ``apptell serve``: pages, and the JSON API under them.

One process serves everything; every asset is in this package, and no page loads anything from elsewhere.
"""
