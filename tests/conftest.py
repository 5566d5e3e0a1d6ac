"""Shared fixtures and strategies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from small_cluster import Cluster, cluster
from systolith.formats import BadInput, IntFormat
from systolith.network import Conv
from systolith.rtl.simulators import Simulator, find_simulator

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does, before torch is loaded
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # each with a thread a core would be in the others' way
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

settings.register_profile("systolith", deadline=None, max_examples=60)
settings.load_profile("systolith")

Find = Callable[[str], Simulator]
UINT4, INT4 = IntFormat(4, False), IntFormat(4, True)


@st.composite
def layers(draw: st.DrawFn, max_channels: int = 11, max_map: int = 7) -> tuple[Conv, np.ndarray]:
    """A small layer and its activations: any channels in any groups, non-square maps and kernels, stride, dilation,
    padding of four sides."""
    pair = st.tuples
    kernel = draw(pair(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(pair(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(pair(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(pair(*[st.integers(0, 2)] * 4))
    padding = pads if draw(st.booleans()) else (pads[0], pads[0], pads[2], pads[2])
    reach = [dilation[d] * (kernel[d] - 1) + 1 for d in (0, 1)]
    size = [draw(st.integers(max(1, reach[d] - sum(padding[2 * d : 2 * d + 2])), max_map)) for d in (0, 1)]
    groups = draw(st.sampled_from([1, 1, *range(2, max_channels + 1)]))
    ins, outs = draw(pair(*[st.integers(1, max_channels // groups)] * 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    signed = draw(st.booleans())
    act_format = IntFormat(4, signed)
    weight = rng.integers(-8, 8, (groups * outs, ins, *kernel))
    act = rng.integers(act_format.lo, act_format.hi + 1, (groups * ins, *size))
    return Conv("layer", weight, act_format, INT4, stride, padding, dilation, groups), act


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers every time."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def random_model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained squeezed VGG16 with calibrated clip values, as a model file (its checkpoint lies beside it)."""
    import torch

    from systolith.models import Vgg16, VggConfig, config_of, save_model
    from systolith.quant import calibrate

    torch.manual_seed(7)
    model = Vgg16(VggConfig(squeeze_layer="features.27"))
    calibrate(model, torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8))
    folder = tmp_path_factory.mktemp("model")
    model.eval()
    save_model(model, folder / "model.safetensors", {"data": "random"})
    torch.save({"config": config_of(model), "model": model.state_dict()}, folder / "last.pt")
    return folder / "model.safetensors"


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, 3, 32, 32)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled cores, shared by the workers of a run."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"


@pytest.fixture(scope="session")
def simulator() -> Find:
    """A simulator by name; where it is missing, the test is left out and says so (in CI it fails)."""

    def find(name: str) -> Simulator:
        try:
            return find_simulator(name)
        except BadInput as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))

    return find


@pytest.fixture(scope="session")
def icarus(simulator: Find) -> Simulator:
    return simulator("icarus")


@pytest.fixture(scope="session")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on this machine that nobody harms."""
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found
