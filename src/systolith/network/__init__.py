"""The integer network: graph nodes and executors. Imports only the ground floor."""

from systolith.network.graph import Conv
from systolith.network.integer import IntegerNetwork, Step

__all__ = ["Conv", "IntegerNetwork", "Step"]
