"""Systolith: from a trained low-bit CNN to golden vectors for a systolic array."""

__version__ = "0.1.0"
