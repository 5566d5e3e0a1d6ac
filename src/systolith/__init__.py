"""Systolith: from a trained low-bit CNN to hardware that provably computes it, every step checked.

    trained network = integer network = array psums = golden vectors = RTL simulation

By task:

    a network      load, read_picture, evaluate, train, quantize, calibrate
    its integers   recover, lower, verify, import_model, export, Network, Conv
    on an array    ArraySpec, run_layer, clocks, simulate, explore
    vector files   write_bundle, read_bundle, verify_bundle, Layout, find_layout, convert
    your RTL       check, grade, cosim, mutate, synth, BundleBus
    all at once    run
    to look at     write_page, view
    what is wrong  BadInput

Each command is a function here with the same options, and gives a report: `holds`, `verdict`, the numbers, and
`to_json()`. Names load on first use; only load, recover, lower, verify, evaluate, train, quantize, calibrate
and run need torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from systolith.version import __version__ as __version__

if TYPE_CHECKING:
    from systolith.array import ArraySpec, run_layer
    from systolith.flows.check import check
    from systolith.flows.convert import convert
    from systolith.flows.evaluate import evaluate
    from systolith.flows.explore import explore
    from systolith.flows.export import export
    from systolith.flows.grade import grade
    from systolith.flows.import_model import import_model
    from systolith.flows.lower import lower
    from systolith.flows.run import run
    from systolith.flows.simulate import simulate
    from systolith.flows.train import train
    from systolith.flows.verify import verify
    from systolith.flows.view import view
    from systolith.formats import BadInput
    from systolith.frontends.torch import recover
    from systolith.hardware.cosim import cosim
    from systolith.hardware.mutate import mutate
    from systolith.hardware.synth import synth
    from systolith.models import load_pretrained, quantize
    from systolith.models import load_pretrained as load
    from systolith.network import Conv
    from systolith.network import IntegerNetwork as Network
    from systolith.pictures import read_picture
    from systolith.projects.bus import BundleBus
    from systolith.quant import calibrate
    from systolith.report.html.page import write_page
    from systolith.timing import clocks
    from systolith.vectors import Layout, find_layout, read_bundle, verify_bundle, write_bundle

__all__ = [
    "ArraySpec",
    "BadInput",
    "BundleBus",
    "Conv",
    "Layout",
    "Network",
    "calibrate",
    "check",
    "clocks",
    "convert",
    "cosim",
    "evaluate",
    "explore",
    "export",
    "find_layout",
    "grade",
    "import_model",
    "load",
    "load_pretrained",
    "lower",
    "mutate",
    "quantize",
    "read_bundle",
    "read_picture",
    "recover",
    "run",
    "run_layer",
    "simulate",
    "synth",
    "train",
    "verify",
    "verify_bundle",
    "view",
    "write_bundle",
    "write_page",
]

_HOMES = {
    "ArraySpec": "array",
    "BadInput": "formats",
    "BundleBus": "projects.bus",
    "Conv": "network",
    "Layout": "vectors",
    "Network": "network:IntegerNetwork",
    "calibrate": "quant",
    "clocks": "timing",
    "cosim": "hardware.cosim",
    "find_layout": "vectors",
    "load": "models:load_pretrained",
    "load_pretrained": "models",
    "mutate": "hardware.mutate",
    "quantize": "models",
    "read_bundle": "vectors",
    "read_picture": "pictures",
    "recover": "frontends.torch",
    "run_layer": "array",
    "synth": "hardware.synth",
    "verify_bundle": "vectors",
    "write_bundle": "vectors",
    "write_page": "report.html.page",
}
"""Where a name is, and behind a colon what it is called there; a verb is in `flows`, in the file of its name."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'systolith' has no attribute {name!r}")
    room, _, there = _HOMES.get(name, f"flows.{name}").partition(":")
    value = getattr(importlib.import_module(f"systolith.{room}"), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
