"""The integer network: graph nodes and executors. Imports only the ground floor."""

from systolith.network.graph import Conv

__all__ = ["Conv"]
