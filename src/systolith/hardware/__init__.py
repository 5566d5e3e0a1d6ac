"""Flows of RTL: what the verbs that work on hardware sources do."""
