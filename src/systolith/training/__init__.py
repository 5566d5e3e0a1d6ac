"""Data, recipes and the training loop. Imports `models` and what that imports."""
