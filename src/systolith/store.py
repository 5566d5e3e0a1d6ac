"""The one model file, the names of the shipped ones, and writing that is whole or not at all.

A model file is safetensors: per quantized layer `NAME.codes` (packed by `formats.pack_codes`, uint8) and
`NAME.weight_scale` (fp32); every other tensor of the network (activation clip values, batch norms, integer-bias
source) as it is, fp32. Where the file holds the integer network too: `network/NAME/...`, integers only; its weights
are the same `NAME.codes`. The header's `systolith` entry is JSON: format, version, config, layers, run, and network
(the steps).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput, IntFormat, pack_codes, unpack_codes

FORMAT, VERSION = "systolith-model", 1
_NETWORK = "network/"
ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Codes:
    """Integer weight codes of one layer: `values` int8 (O, ...) and their format, `scale` fp32 (1,) or (O,) (None in a
    file of integers only), and the format of the activations that the layer takes."""

    values: NDArray[np.int8]
    format: IntFormat
    scale: NDArray[np.float32] | None
    act_format: IntFormat


@dataclass(frozen=True)
class NetworkPart:
    """The integer network of a model file, as `network/file.py` reads and writes it.

    Attributes:
        steps: plain JSON, one object a step.
        tensors: integer arrays by "NAME/what".
        outputs: the names of the steps that leave the network; none of a classifier, whose logits do.
    """

    steps: list[dict[str, Any]]
    tensors: Mapping[str, NDArray[np.integer]]
    outputs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    Attributes:
        config: what fixes the architecture; plain JSON values. Empty in a file of integers only.
        codes: weight codes by layer name.
        floats: the other tensors by their name in the network, fp32. Empty in a file of integers only.
        run: metadata of the training that made it (data, epochs, accuracy, version, ...).
        network: the integer network, if it has been lowered.
    """

    config: Mapping[str, Any]
    codes: Mapping[str, Codes]
    floats: Mapping[str, NDArray[np.float32]]
    run: Mapping[str, Any] = field(default_factory=dict)
    network: NetworkPart | None = None


def save_model_file(path: Path, model: ModelFile) -> None:
    """Write `model` to `path`, atomically."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {k: np.asarray(v, np.float32) for k, v in model.floats.items()}
    layers = {}
    for name, c in model.codes.items():
        tensors[f"{name}.codes"] = pack_codes(c.values, c.format)
        if c.scale is not None:
            tensors[f"{name}.weight_scale"] = np.asarray(c.scale, np.float32)
        layers[name] = {
            "shape": list(c.values.shape),
            "format": asdict(c.format),
            "act_format": asdict(c.act_format),
        }
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": dict(model.config),
        "layers": layers,
        "run": dict(model.run),
    }
    if model.network is not None:
        header["network"] = model.network.steps
        if model.network.outputs:
            header["outputs"] = model.network.outputs
        tensors |= {f"{_NETWORK}{name}": array for name, array in model.network.tensors.items()}
    header["sha256"] = _digest(tensors)
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata={"systolith": json.dumps(header)})


def _digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes: one flipped bit would be another network, quietly."""
    sums = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        sums.update(f"{name} {array.dtype.str} {array.shape}".encode())
        sums.update(array.data)
    return sums.hexdigest()


def _open(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("systolith")
            if text is None:
                raise BadInput(f"{path}: a safetensors file, but not one written by systolith (no `systolith` header)")
            header = json.loads(text)
            if not isinstance(header, dict):
                raise BadInput(f"{path}: expected an object in the `systolith` header, found {type(header).__name__}")
            if header.get("format") != FORMAT or header.get("version") != VERSION:
                raise BadInput(
                    f"{path}: expected {FORMAT} version {VERSION}, "
                    f"found {header.get('format')} version {header.get('version')}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "sha256" in header and header["sha256"] != _digest(tensors):
                raise BadInput(f"{path}: damaged: its tensors are not those that were written (SHA-256)")
            return header, tensors
    except FileNotFoundError:
        raise BadInput(f"{path}: no such model file") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: not a readable model file, truncated or of another kind ({error})") from None


def load_model_file(path: Path) -> ModelFile:
    """Read a model file; `BadInput` if it is missing, truncated, or of another kind."""
    header, tensors = _open(path)
    try:
        codes = {}
        for name, layer in header["layers"].items():
            fmt = IntFormat(**layer["format"])
            if not 2 <= fmt.bits <= 8:
                raise BadInput(f"{path}: layer {name}: expected weights of 2 to 8 bits, found {fmt.bits}")
            values = unpack_codes(tensors.pop(f"{name}.codes"), fmt, layer["shape"]).astype(np.int8)
            if header["config"] and values.size and values.min() < -fmt.hi:  # our own quantizers are narrow
                raise BadInput(f"{path}: layer {name}: weight codes are {-fmt.hi}..{fmt.hi}, found {values.min()}")
            scale = tensors.pop(f"{name}.weight_scale") if header["config"] else None
            codes[name] = Codes(values, fmt, scale, IntFormat(**layer["act_format"]))
        network = None
        if "network" in header:
            integers = {n: tensors.pop(n) for n in list(tensors) if n.startswith(_NETWORK)}
            parts = {n.removeprefix(_NETWORK): array for n, array in integers.items()}
            network = NetworkPart(list(header["network"]), parts, list(header.get("outputs", ())))
        return ModelFile(dict(header["config"]), codes, tensors, dict(header["run"]), network)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path}: an incomplete or damaged model file ({type(error).__name__}: {error})") from None


def shipped_models() -> dict[str, Path]:
    """The models in the package, by name."""
    return {p.stem: p for p in sorted((ASSETS / "models").glob("*.safetensors"))}


def model_path(name: str) -> Path:
    """The file that `name` stands for: a shipped model, a `.safetensors` or a `.pt` path."""
    shipped = shipped_models()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix in (".safetensors", ".pt") or path.exists():
        if not path.is_file():
            raise BadInput(f"{name}: no such model file")
        return path
    raise BadInput(f"no model {name!r}: expected {', '.join(shipped)}, or the path of a model file or checkpoint")


def is_checkpoint(path: Path) -> bool:
    """Whether the file is a checkpoint (a zip, as torch.save writes, or called as one) and not a model file."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK" or path.suffix in (".pt", ".pth", ".tar")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; `BadInput` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well, removed otherwise."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_mine())
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside `path`, moved onto it when the block ends well, removed otherwise.

    An existing `path` is an error, or replaced when `force`, but only at the very end and only if it is a folder.
    """
    path = require_free(path, force)
    temporary = old = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path.parent)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_mine()))
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=".systolith.old."))
            path.replace(old)
        try:
            temporary.replace(path)
        except BaseException:
            if old is not None:
                kept, old = old, None  # whatever happens now, what the user had is not deleted
                kept.replace(path)
            raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from None
    finally:
        for left in (temporary, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


_ORPHAN = re.compile(r"\.systolith\.([^.]+)\.(\d+)\.(\d+)\..+")
"""Host, process and the time that process began: what `.systolith.old.` holds is the user's, and never matches."""


def _mine() -> str:
    """The beginning of a temporary's name, which says whose it is."""
    return f".systolith.{_host()}.{os.getpid()}.{_began(os.getpid())}."


def _host() -> str:
    return re.sub(r"[^\w-]", "-", platform.node()) or "unknown"


def _began(process: int) -> int:
    """When a process began, in clock ticks since boot: a number given anew is another process. 0 where unknown."""
    try:
        # The name, in parentheses, may hold anything; the start is the 22nd field, the 20th behind it.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _alive(process: int, began: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's, or a number that this system has not: not ours to judge
    return not began or _began(process) in (0, began)


def _remove_orphans(folder: Path) -> None:
    """Remove what commands of this machine that were killed have left half-written in `folder`."""
    for path in folder.glob(".systolith.*"):
        match = _ORPHAN.fullmatch(path.name)
        if match and match[1] == _host() and not _alive(int(match[2]), int(match[3])):
            # Another user's, in a folder like /tmp, stays: that is no reason not to write. So is one removed meanwhile.
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def require_free(path: Path, force: bool) -> Path:
    """`path` made absolute; raises `BadInput` if an output folder cannot be created or replaced there."""
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise BadInput(f"{path}: expected a folder or nothing there, found a file or a link")
        whole = path.resolve()
        for parent in whole.parents:
            if parent.exists() and not parent.is_dir():
                raise BadInput(f"{path}: cannot be created, because {parent} is a file")
        if whole.exists() and not force:
            raise BadInput(f"{path}: exists already; --force replaces it")
        if whole == Path.cwd() or whole in Path.cwd().parents:
            raise BadInput(f"{path}: the current folder and those above it are never replaced")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise BadInput(f"{path}: cannot be an output folder ({getattr(error, 'strerror', None) or error})") from None
    return whole


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
