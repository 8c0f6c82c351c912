"""One module per kind of traffic that is no messenger in; their names out. All of it is labelled ``other``."""

BACKGROUND = ("web", "api", "stream", "download")
