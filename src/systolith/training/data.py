"""Labelled pictures, decoded once to uint8: parquet, the original CIFAR-10 batches, folders, or the hub."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput
from systolith.pictures import CIFAR10_CLASSES, IMAGE_COLUMNS, LABEL_COLUMNS, SUFFIXES, read_picture

# Sums of the pixels and of their squares, per channel: whole numbers, the same in whatever order the pictures come.
_KNOWN: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
    ((6415714204, 6295060180, 5829907619), (1007102432534, 971356520230, 891641299129)): "CIFAR-10 (train)",
    ((1290492328, 1266775083, 1176108223), (203142822772, 195994125155, 180646015723)): "CIFAR-10 (test)",
}


@dataclass(frozen=True)
class LabelledPictures:
    """`images` uint8 (N, 3, 32, 32), `labels` int64 (N,), `classes` their names, `source` for people.

    The original pictures of CIFAR-10 are recognised by their pixels, and called that wherever they came from.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)


def load_data(source: str, split: str) -> LabelledPictures:
    """Load the `split` ("train" or "test") of a data set.

    Args:
        source: a folder with `train.parquet`/`test.parquet` (or the hub's shard names); a
            `cifar-10-batches-py` folder or its parent; a folder `SPLIT/CLASS/*.png` (for "test" also
            `CLASS/*.png`); or a hub name such as `uoft-cs/cifar10`.

    Raises:
        BadInput: missing, truncated or foreign files; says which.
    """
    root = Path(source)
    if not root.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
            return _hub(source, split)
        raise BadInput(f"--data {source}: no such folder (and not a hub name of the form owner/name)")
    if not root.is_dir():
        raise BadInput(f"--data {source}: expected a folder, found a file")
    for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
        shards = sorted(folder.glob(f"{split}.parquet")) or sorted(folder.glob(f"{split}-*.parquet"))
        if shards:
            return _parquet(shards, split, root.resolve().name)
    for folder in (root, root / "cifar-10-batches-py"):
        if (folder / "batches.meta").exists() or (folder / "test_batch").exists():
            return _batches(folder, split)
    named = root / split
    folder = named if named.is_dir() else root
    classes = _class_folders(folder)
    if classes and (named.is_dir() or split == "test"):
        # Numbered over both splits: a class that one of them lacks must not shift the others.
        everywhere = {*classes, *(c for s in ("train", "test") if named.is_dir() for c in _class_folders(root / s))}
        return _folder(folder, sorted(everywhere))
    raise BadInput(
        f"--data {source}: no {split} pictures found; expected {split}.parquet, cifar-10-batches-py, "
        f"or {split}/CLASS/*.png"
    )


def _decode(encoded: Sequence[bytes | Path], source: str) -> NDArray[np.uint8]:
    def decode(row: int) -> NDArray[np.uint8]:
        item = encoded[row]
        try:
            return read_picture(item)[0]
        except BadInput as error:
            if isinstance(item, Path):
                raise
            raise BadInput(f"--data {source}: row {row}: {error}") from None

    if not encoded:
        raise BadInput(f"--data {source}: holds no pictures")
    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(decode, range(len(encoded)))))


def _labelled(
    images: NDArray[np.uint8], labels: Iterable[int], classes: Sequence[str], source: str
) -> LabelledPictures:
    given = list(labels)
    if not all(isinstance(label, int | np.integer) for label in given):
        odd = next(label for label in given if not isinstance(label, int | np.integer))
        raise BadInput(f"--data {source}: expected integer labels, found {odd!r}")
    array = np.asarray(given, dtype=np.int64)
    if len(array) == 0 or len(array) != len(images):
        raise BadInput(f"--data {source}: {len(images)} pictures and {len(array)} labels")
    if array.min() < 0 or array.max() >= len(classes):
        raise BadInput(f"--data {source}: labels {array.min()}..{array.max()}, expected 0..{len(classes) - 1}")
    return LabelledPictures(images, array, tuple(classes), _KNOWN.get(_sums(images), source))


def _sums(images: NDArray[np.uint8]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Per channel, the sum of the pixels and of their squares."""
    channels = range(images.shape[1])
    plain = tuple(int(images[:, c].sum(dtype=np.uint64)) for c in channels)
    return plain, tuple(int(np.square(images[:, c], dtype=np.uint16).sum(dtype=np.uint64)) for c in channels)


def _column(names: Sequence[str], wanted: Sequence[str], where: str) -> str:
    for name in wanted:
        if name in names:
            return name
    raise BadInput(f"{where}: expected a column {' or '.join(wanted)}, found {', '.join(names) or 'none'}")


def _parquet(shards: Sequence[Path], split: str, source: str) -> LabelledPictures:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadInput("reading parquet needs pyarrow: pip install 'systolith[train]'") from None
    encoded: list[bytes] = []
    labels: list[int] = []
    for shard in shards:
        try:
            table = pq.read_table(shard)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"{shard}: not a readable parquet file, truncated or of another kind ({error})") from None
        image_column = _column(table.column_names, IMAGE_COLUMNS, str(shard))
        label_column = _column(table.column_names, LABEL_COLUMNS, str(shard))
        for row, item in enumerate(table[image_column].to_pylist()):
            if not isinstance(item, dict) or not isinstance(item.get("bytes"), bytes):
                raise BadInput(f"{shard}: row {row}: expected encoded picture bytes in column {image_column}")
            encoded.append(item["bytes"])
        labels += table[label_column].to_pylist()
    name = f"{source} ({split})"
    return _labelled(_decode(encoded, name), labels, _numbered(labels), name)


def _numbered(labels: Sequence[Any]) -> Sequence[str]:
    """Class names where the data has none: CIFAR-10's for ten classes, else numbers."""
    most = max((label for label in labels if isinstance(label, int)), default=0)
    return CIFAR10_CLASSES if most < 10 else [str(i) for i in range(most + 1)]


class _ArraysOnly(pickle.Unpickler):
    """CIFAR-10's batches are pickles: let them build NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        code = f"{module}.{name}"
        raise pickle.UnpicklingError(f"it holds code, {code}, which is not allowed in a CIFAR-10 batch and was not run")


def _unpickle(path: Path) -> dict[bytes, Any]:
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except FileNotFoundError:
        raise BadInput(f"{path}: missing") from None
    except Exception as error:  # pickle raises whatever the bytes provoke
        raise BadInput(f"{path}: not a readable CIFAR-10 batch ({error})") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not a CIFAR-10 batch")
    return content


def _batches(folder: Path, split: str) -> LabelledPictures:
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    parts = []
    for name in names:
        batch = _unpickle(folder / name)
        data = batch.get(b"data")
        if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == 3072):
            raise BadInput(f"{folder / name}: expected data of shape (N, 3072), uint8")
        if not isinstance(batch.get(b"labels"), list):
            raise BadInput(f"{folder / name}: expected a list of labels")
        parts.append((data.reshape(-1, 3, 32, 32), batch[b"labels"]))
    images = np.concatenate([p[0] for p in parts])
    labels = [label for p in parts for label in p[1]]
    return _labelled(images, labels, CIFAR10_CLASSES, f"{folder.resolve().name} ({split})")


def _class_folders(folder: Path) -> list[str]:
    """Names of the folders in `folder` with pictures in them; hidden ones are not classes."""
    if not folder.is_dir():
        return []
    inside = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))
    return sorted(p.name for p in inside if any(f.suffix.lower() in SUFFIXES for f in p.iterdir()))


def _folder(folder: Path, classes: Sequence[str]) -> LabelledPictures:
    # Folders named after CIFAR-10's classes keep CIFAR-10's numbers, whichever of them are there.
    names = CIFAR10_CLASSES if set(classes) <= set(CIFAR10_CLASSES) else tuple(classes)
    files = [
        (path, names.index(name))
        for name in _class_folders(folder)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    name = folder.resolve().name
    return _labelled(_decode([p for p, _ in files], name), (label for _, label in files), names, name)


def _hub(name: str, split: str) -> LabelledPictures:
    try:
        import datasets
    except ImportError:
        raise BadInput("reading a hub data set needs datasets: pip install 'systolith[train]'") from None
    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # network, authentication, a missing name: the library has no common class
        # These libraries' messages go on for paragraphs; the first line says what happened.
        reason = (str(error).splitlines() or [""])[0]
        raise BadInput(f"--data {name}: the hub did not give it ({type(error).__name__}: {reason})") from None
    return _from_table(table, name, split)


def _from_table(table: Any, name: str, split: str) -> LabelledPictures:
    """A `datasets.Dataset` with an image and a label column."""
    import datasets

    image_column = _column(table.column_names, IMAGE_COLUMNS, name)
    label_column = _column(table.column_names, LABEL_COLUMNS, name)
    raw = table.cast_column(image_column, datasets.Image(decode=False))
    encoded = [item["bytes"] or Path(item["path"]) for item in raw[image_column]]
    labels = list(table[label_column])
    classes = getattr(table.features[label_column], "names", None) or _numbered(labels)
    return _labelled(_decode(encoded, f"{name} ({split})"), labels, classes, f"{name} ({split})")
