"""Yosys: what RTL becomes in cells, and which designs are equal. Never imports torch."""
