from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import pictures
from systolith.formats import BadInput
from systolith.pictures import CIFAR10_CLASSES
from systolith.training.data import _from_table, load_data


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, images: np.ndarray, labels: list[int], names: tuple[str, str] = ("img", "label")) -> None:
    rows = [{"bytes": png(p), "path": None} for p in images]
    pq.write_table(pa.table({names[0]: rows, names[1]: labels}), path)


@pytest.mark.parametrize("name", ["test.parquet", "plain_text/test-00000-of-00001.parquet"])
def test_parquet(tmp_path: Path, name: str) -> None:
    images = pictures(5)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write_parquet(tmp_path / name, images, [3, 1, 4, 1, 5])
    data = load_data(str(tmp_path), "test")
    assert data.images.dtype == np.uint8
    assert (data.images == images).all()
    assert data.labels.tolist() == [3, 1, 4, 1, 5]
    assert data.classes == CIFAR10_CLASSES
    with pytest.raises(BadInput, match="no train pictures found"):
        load_data(str(tmp_path), "train")


def test_bad_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", pictures(5), [0] * 5)
    whole = (tmp_path / "test.parquet").read_bytes()
    (tmp_path / "test.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="not a readable parquet file, truncated"):
        load_data(str(tmp_path), "test")
    write_parquet(tmp_path / "test.parquet", pictures(5), [0] * 5, ("photo", "label"))
    with pytest.raises(BadInput, match="expected a column img or image, found photo, label"):
        load_data(str(tmp_path), "test")
    write_parquet(tmp_path / "test.parquet", pictures(2), [0, -1])
    with pytest.raises(BadInput, match=r"labels -1..0, expected 0..9"):
        load_data(str(tmp_path), "test")
    for labels in (["a", "b"], [0, None], [0.5, 1.0], [[1], [2]]):
        write_parquet(tmp_path / "test.parquet", pictures(2), labels)  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="expected integer labels, found"):
            load_data(str(tmp_path), "test")
    rows = [{"bytes": png(pictures(1)[0]), "path": None}, {"bytes": b"nothing", "path": None}]
    pq.write_table(pa.table({"img": rows, "label": [0, 1]}), tmp_path / "test.parquet")
    with pytest.raises(BadInput, match=r"row 1: picture bytes: not a readable picture"):
        load_data(str(tmp_path), "test")
    empty = pa.table({"img": pa.array([], pa.struct({"bytes": pa.binary()})), "label": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "test.parquet")
    with pytest.raises(BadInput, match="holds no pictures"):
        load_data(str(tmp_path), "test")
    pq.write_table(pa.table({"img": [1, 2], "label": [0, 1]}), tmp_path / "test.parquet")
    with pytest.raises(BadInput, match="row 0: expected encoded picture bytes"):
        load_data(str(tmp_path), "test")


def write_batches(folder: Path) -> np.ndarray:
    folder.mkdir()
    images = pictures(12)
    (folder / "batches.meta").write_bytes(b"")
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        part = images[2 * i : 2 * i + 2]
        content = {b"data": part.reshape(2, -1), b"labels": [i, 9 - i], b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(content))
    return images


@pytest.mark.parametrize("parent", [True, False])
def test_original_batches(tmp_path: Path, parent: bool) -> None:
    images = write_batches(tmp_path / "cifar-10-batches-py")
    source = tmp_path if parent else tmp_path / "cifar-10-batches-py"
    train, test = load_data(str(source), "train"), load_data(str(source), "test")
    assert (train.images == images[:10]).all()
    assert train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert (test.images == images[10:]).all()


def test_bad_batches(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder)
    whole = (folder / "test_batch").read_bytes()
    (folder / "test_batch").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"test_batch: not a readable CIFAR-10 batch"):
        load_data(str(tmp_path), "test")
    (folder / "test_batch").write_bytes(pickle.dumps(Path("/tmp")))  # a class that must not be built
    with pytest.raises(BadInput, match="is not allowed in a CIFAR-10 batch"):
        load_data(str(tmp_path), "test")
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros((2, 100)), b"labels": [0, 0]}))
    with pytest.raises(BadInput, match=r"expected data of shape \(N, 3072\)"):
        load_data(str(tmp_path), "test")
    wrong = {b"data": np.full((2, 3072), 300), b"labels": [0, 0]}  # int64: never cut to 8 bits
    (folder / "test_batch").write_bytes(pickle.dumps(wrong))
    with pytest.raises(BadInput, match=r"expected data of shape \(N, 3072\), uint8"):
        load_data(str(tmp_path), "test")
    (folder / "data_batch_3").unlink()
    with pytest.raises(BadInput, match=r"data_batch_3: missing"):
        load_data(str(tmp_path), "train")


def test_folder_of_images(tmp_path: Path) -> None:
    images = pictures(3)
    for i, (split, name) in enumerate([("train", "dog"), ("test", "cat"), ("test", "dog")]):
        (tmp_path / split / name).mkdir(parents=True)
        (tmp_path / split / name / "a.png").write_bytes(png(images[i]))
    test = load_data(str(tmp_path), "test")
    assert (test.images == images[1:]).all()
    assert [test.classes[i] for i in test.labels] == ["cat", "dog"]
    assert test.classes == CIFAR10_CLASSES  # known names keep CIFAR-10's numbers
    assert len(load_data(str(tmp_path), "train")) == 1
    for name in (".ipynb_checkpoints", "__MACOSX", "empty"):  # none of these is a class
        (tmp_path / "test" / name).mkdir()
    (tmp_path / "test" / "__MACOSX" / "a.png").write_bytes(png(images[0]))
    assert (load_data(str(tmp_path), "test").labels == test.labels).all()
    flat = load_data(str(tmp_path / "test"), "test")
    assert (flat.images == test.images).all()
    with pytest.raises(BadInput, match="no train pictures"):
        load_data(str(tmp_path / "test"), "train")
    (tmp_path / "test" / "dog" / "a.png").write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"a.png: not a readable picture"):
        load_data(str(tmp_path), "test")


def test_other_classes_are_numbered_over_both_splits(tmp_path: Path) -> None:
    for split, names in (("train", "ABC"), ("test", "AC")):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.png").write_bytes(png(pictures(1)[0]))
    test = load_data(str(tmp_path), "test")
    assert test.classes == ("A", "B", "C")
    assert test.labels.tolist() == [0, 2]


def test_a_hub_table() -> None:
    import datasets

    images = pictures(3)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"img": [{"bytes": png(p), "path": None} for p in images], "label": [1, 0, 1]}
    data = _from_table(datasets.Dataset.from_dict(rows, features=features), "owner/name", "test")
    assert (data.images == images).all()
    assert data.classes == ("a", "b")
    assert data.source == "owner/name (test)"


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        load_data(str(tmp_path / "nowhere"), "test")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="expected a folder, found a file"):
        load_data(str(tmp_path / "file"), "test")
    with pytest.raises(BadInput, match="no test pictures found; expected"):
        load_data(str(tmp_path), "test")
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(BadInput, match=r"--data uoft-cs/cifar10: the hub did not give it \(ConnectionError: offline\)"):
        load_data("uoft-cs/cifar10", "test")


def test_the_original_pictures_are_known_by_their_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = pictures(5)
    sums = [[int(v) for v in images.astype(np.int64).__pow__(n).sum((0, 2, 3))] for n in (1, 2)]
    known = {(tuple(sums[0]), tuple(sums[1])): "these five"}
    monkeypatch.setattr("systolith.training.data._KNOWN", known)
    write_parquet(tmp_path / "test.parquet", images[::-1], [0] * 5)
    assert load_data(str(tmp_path), "test").source == "these five"
    images = images.copy()
    images[0, 0, 0, 0] ^= 1
    write_parquet(tmp_path / "test.parquet", images, [0] * 5)
    assert load_data(str(tmp_path), "test").source == f"{tmp_path.name} (test)"
