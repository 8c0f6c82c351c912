"""The lab's own small servers."""
