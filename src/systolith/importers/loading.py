"""Any model that a command can be given: a shipped name, our own files, or somebody else's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from systolith.formats import BadInput
from systolith.frontends.lowered import Lowered
from systolith.importers.checkpoint import import_checkpoint
from systolith.importers.foreign import Foreign
from systolith.importers.importing import import_onnx
from systolith.models import Net
from systolith.models import load as load_own
from systolith.models.pretrained import read_tensors
from systolith.store import is_checkpoint, model_path


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in eval.

    Attributes:
        name: what it was loaded by; of a network of one's own its class.
        model: it takes uint8 pictures.
        run: metadata of the training; of a foreign file, what it is.
        size: (H, W) of its pictures; () for vectors.
        foreign: where it came from, or None for our own.
    """

    name: str
    model: nn.Module
    run: Mapping[str, Any]
    size: tuple[int, ...] = (32, 32)
    foreign: Foreign | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed of a foreign file, a sentence each."""
        return self.foreign.notes if self.foreign is not None else ()

    @property
    def own(self) -> Any:
        """The model, of our own kinds; `BadInput` if it is foreign."""
        if not self.has_config:
            raise BadInput(f"expected a model of systolith's own, found {self.name}")
        return self.model

    @property
    def has_config(self) -> bool:
        """Whether a model file can hold it, trained floats too."""
        return isinstance(self.model, Net)

    def lower(self) -> Lowered:
        """Its integer network; `BadInput` naming what has none."""
        from systolith.frontends.lowering import lower

        return lower(self.model, self.size)


def load_any(
    name: str | nn.Module,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    weight_bits: int = 4,
    act_bits: int = 4,
) -> Loaded:
    """The model that `name` stands for: a shipped one, a model file, a run's checkpoint, ONNX, a course checkpoint.

    Args:
        name: in Python a network of one's own, too: of our layers, for 32x32 pictures.
        mean, std: of a foreign file's pictures, a channel (`import_onnx`, `import_checkpoint`).
        weight_bits, act_bits: of a course checkpoint.

    Raises:
        BadInput: no such file, or one that cannot be taken.
    """
    if isinstance(name, nn.Module):
        return Loaded(type(name).__name__, name, {})
    path = model_path(name)
    if path.suffix == ".npz":
        raise BadInput(f"{path}: holds only the integers of a network; expected the trained model they were made from")
    foreign = _foreign(path, mean, std, weight_bits, act_bits)
    if foreign is None:
        model, run = load_own(name)
        return Loaded(name, model, run)
    run = {"recipe": f"{foreign.kind} {path.name}"}
    return Loaded(name, foreign.model, run, foreign.size, foreign)


def _foreign(
    path: Path, mean: Sequence[float], std: Sequence[float], weight_bits: int, act_bits: int
) -> Foreign | None:
    if path.suffix == ".onnx":
        return import_onnx(path, mean, std)
    if not is_checkpoint(path):
        return None
    state = read_tensors(path)
    if isinstance(state, dict) and {"config", "model"} <= set(state):
        return None
    if not isinstance(state, Mapping):
        raise BadInput(f"{path}: a torch file of {type(state).__name__}, not of a network's tensors")
    return import_checkpoint(path, mean, std, weight_bits, act_bits)
