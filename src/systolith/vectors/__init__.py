"""Vector files: layouts, text, bundles. Imports `array` and what that imports; never torch."""

from systolith.vectors.bundle import read_bundle, verify_bundle, write_bundle
from systolith.vectors.layout import LAYOUTS, Layout, find_layout

__all__ = ["LAYOUTS", "Layout", "find_layout", "read_bundle", "verify_bundle", "write_bundle"]
