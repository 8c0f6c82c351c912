"""Kinds of traffic that is no messenger in; the names of their modules out, all ``other``."""

BACKGROUND = ("web", "api", "stream", "download", "remote", "names", "mail", "browser")
