"""Vector files: layouts, text, bundles. Imports `array` and what that imports; never torch."""

from systolith.vectors.bundle import read_bundle, verify_bundle, write_bundle
from systolith.vectors.layout import Layout
from systolith.vectors.layout_file import find_layout, presets

__all__ = ["Layout", "find_layout", "presets", "read_bundle", "verify_bundle", "write_bundle"]
