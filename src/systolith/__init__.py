"""Systolith: from a trained low-bit CNN to golden vectors for a systolic array, every step checked.

    trained network = integer network = array psums = golden vectors

The names below load on first use; only `load_pretrained` and `recover` need torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from systolith.version import __version__ as __version__

if TYPE_CHECKING:
    from systolith.array import ArraySpec, run_layer
    from systolith.formats import BadInput
    from systolith.frontends.torch import recover
    from systolith.models import load_pretrained
    from systolith.network import Conv
    from systolith.pictures import read_picture
    from systolith.vectors import verify_bundle, write_bundle

__all__ = [
    "ArraySpec",
    "BadInput",
    "Conv",
    "load_pretrained",
    "read_picture",
    "recover",
    "run_layer",
    "verify_bundle",
    "write_bundle",
]

_HOMES = {
    "ArraySpec": "array",
    "BadInput": "formats",
    "Conv": "network",
    "load_pretrained": "models",
    "read_picture": "pictures",
    "recover": "frontends.torch",
    "run_layer": "array",
    "verify_bundle": "vectors",
    "write_bundle": "vectors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'systolith' has no attribute {name!r}")
    return getattr(importlib.import_module(f"systolith.{_HOMES[name]}"), name)
