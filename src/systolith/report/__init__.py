"""Reports as text, plots and diagrams. Imports `flows` and what that imports."""
