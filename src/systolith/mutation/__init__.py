"""Mutants of RTL: its sources with one thing changed, and which of them a testbench kills. Never imports torch."""
