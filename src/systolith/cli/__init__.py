"""Thin commands, one file per verb. Heavy imports stay inside the functions."""
