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


@dataclass(frozen=True)
class LabelledPictures:
    """`images` uint8 (N, 3, 32, 32), `labels` int64 (N,), `classes` their names, `source` for people."""

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
    shards = sorted(root.rglob(f"{split}.parquet")) or sorted(root.rglob(f"{split}-*.parquet"))
    if shards:
        return _parquet(shards, split, root.resolve().name)
    for folder in (root, root / "cifar-10-batches-py"):
        if (folder / "batches.meta").exists() or (folder / "test_batch").exists():
            return _batches(folder, split)
    named = root / split
    folder = named if named.is_dir() else root
    if (named.is_dir() or split == "test") and any(p.is_dir() for p in folder.iterdir()):
        return _folder(folder)
    raise BadInput(
        f"--data {source}: no {split} pictures found; expected {split}.parquet, cifar-10-batches-py, "
        f"or {split}/CLASS/*.png"
    )


def _decode(encoded: Sequence[bytes | Path]) -> NDArray[np.uint8]:
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(lambda item: read_picture(item)[0], encoded))
    return np.stack(pictures)


def _labelled(
    images: NDArray[np.uint8], labels: Iterable[int], classes: Sequence[str], source: str
) -> LabelledPictures:
    array = np.asarray(list(labels), dtype=np.int64)
    if len(array) == 0 or len(array) != len(images):
        raise BadInput(f"--data {source}: {len(images)} pictures and {len(array)} labels")
    if array.min() < 0 or array.max() >= len(classes):
        raise BadInput(f"--data {source}: labels {array.min()}..{array.max()}, expected 0..{len(classes) - 1}")
    return LabelledPictures(images, array, tuple(classes), source)


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
    classes = CIFAR10_CLASSES if max(labels, default=0) < 10 else [str(i) for i in range(max(labels) + 1)]
    return _labelled(_decode(encoded), labels, classes, f"{source} ({split})")


class _ArraysOnly(pickle.Unpickler):
    """CIFAR-10's batches are pickles: let them build NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a CIFAR-10 batch")


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
        if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072 or b"labels" not in batch:
            raise BadInput(f"{folder / name}: expected data of shape (N, 3072) and labels")
        parts.append((data.astype(np.uint8).reshape(-1, 3, 32, 32), batch[b"labels"]))
    images = np.concatenate([p[0] for p in parts])
    labels = [label for p in parts for label in p[1]]
    return _labelled(images, labels, CIFAR10_CLASSES, f"{folder.resolve().name} ({split})")


def _folder(folder: Path) -> LabelledPictures:
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    # Folders named after CIFAR-10's classes keep CIFAR-10's numbers, whichever of them are there.
    names = CIFAR10_CLASSES if set(classes) <= set(CIFAR10_CLASSES) else tuple(classes)
    files = [
        (path, names.index(name))
        for name in classes
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise BadInput(f"--data {folder}: no pictures in {', '.join(classes)}")
    return _labelled(_decode([p for p, _ in files]), (label for _, label in files), names, folder.resolve().name)


def _hub(name: str, split: str) -> LabelledPictures:
    try:
        import datasets
    except ImportError:
        raise BadInput("reading a hub data set needs datasets: pip install 'systolith[train]'") from None
    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # network, authentication, a missing name: the library has no common class
        raise BadInput(f"--data {name}: the hub did not give it ({type(error).__name__}: {str(error)[:120]})") from None
    return _from_table(table, name, split)


def _from_table(table: Any, name: str, split: str) -> LabelledPictures:
    """A `datasets.Dataset` with an image and a label column."""
    import datasets

    image_column = _column(table.column_names, IMAGE_COLUMNS, name)
    label_column = _column(table.column_names, LABEL_COLUMNS, name)
    raw = table.cast_column(image_column, datasets.Image(decode=False))
    encoded = [item["bytes"] or Path(item["path"]) for item in raw[image_column]]
    labels = list(table[label_column])
    classes = getattr(table.features[label_column], "names", None) or [str(i) for i in range(max(labels) + 1)]
    return _labelled(_decode(encoded), labels, classes, f"{name} ({split})")
