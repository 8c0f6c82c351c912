"""Requests of the lab's own small servers in; their answers out."""
