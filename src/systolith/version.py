"""The version, and nothing else: whoever writes a file says which version did."""

__version__ = "0.1.0"
