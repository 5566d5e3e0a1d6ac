"""`vectors MODEL --layer ...`, as a user types it: several layers, several pictures, parts of layers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cli.calling import NO_TORCH, call, one_object
from systolith import verify_bundle
from systolith.formats import BadInput
from systolith.steps.bundles import disk_of
from systolith.store import ASSETS
from systolith.vectors import read_bundle

CONVOLUTIONS = [f"features.{n}" for n in (0, 3, 7, 10, 14, 17, 20, 24, 27, 29, 33, 36, 39)]


def vectors(*args: object) -> str:
    result = call("vectors", *args, code=NO_TORCH)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def refused(said: str, *args: object) -> str:
    """One sentence on stderr's last line, exit code 2."""
    result = call("vectors", *args, code=NO_TORCH)
    assert (result.returncode, result.stdout) == (2, "")
    last = str(result.stderr.splitlines()[-1])
    assert said in last
    return last


def test_every_layer_in_parallel_is_every_layer_in_turn(tmp_path: Path) -> None:
    small = ("vgg16-w4a4-s8", "--layer", "all", "--tiles", "1x2", "--limit-nij", "4")
    stdout = vectors(*small, "--jobs", "2", "--out", tmp_path / "two")
    assert stdout.splitlines()[-1].startswith(
        f"14 bundles, {sum(1 for p in (tmp_path / 'two').rglob('*.*') if p.is_file())}"
    )
    found = one_object(call("vectors", *small, "--jobs", "1", "--out", tmp_path / "one", "--json", code=NO_TORCH))
    assert [b["layer"].split()[0] for b in found["bundles"]] == [*CONVOLUTIONS, "classifier"]
    first, last = found["bundles"][0], found["bundles"][-1]
    assert (first["act_bits"], first["weight_bits"], last["weight_bits"]) == (8, 4, 8)
    assert found["files"] == found["predicted"]["files"] == sum(b["files"] for b in found["bundles"])
    assert found["bytes"] <= found["predicted"]["bytes"]
    for name in [*CONVOLUTIONS, "classifier"]:
        one, two = ({p.name: p.read_bytes() for p in (tmp_path / n / name).iterdir()} for n in ("one", "two"))
        assert one == two
        assert all(e.holds for e in verify_bundle(tmp_path / "one" / name))


def test_a_layer_takes_what_the_layer_before_gave(tmp_path: Path) -> None:
    from systolith.network.reference import run
    from systolith.requests.option import quiet
    from systolith.requests.shared import OnePicture
    from systolith.steps.common import find_network, find_picture

    vectors("--layer", "features.27,features.29", "--no-psum", "--out", tmp_path / "d")
    network, _ = find_network("vgg16-w4a4-s8", "test")
    pixels, _, _ = find_picture(OnePicture(), quiet)
    values = run(network, pixels[None], "features.29")
    for name in ("features.27", "features.29"):
        bundle, _ = read_bundle(tmp_path / "d" / name)
        assert (bundle.act == values[network[name].inputs[0]][0]).all()
        assert (bundle.out == values[name][0]).all()
    assert {p.name for p in (tmp_path / "d").iterdir()} == {"features.27", "features.29"}


def test_several_pictures_have_a_folder_each(tmp_path: Path) -> None:
    cat = ASSETS / "cat.png"
    other = tmp_path / "other.png"
    other.write_bytes(cat.read_bytes())
    vectors("--image", cat, "--image", other, "--out", tmp_path / "d")
    one, two = (read_bundle(tmp_path / "d" / name)[0] for name in ("cat", "other"))
    assert (one.act == two.act).all()
    (tmp_path / "sub").mkdir()
    same = tmp_path / "sub" / "cat.png"
    same.write_bytes(cat.read_bytes())
    refused("two pictures of one name", "--image", cat, "--image", same, "--out", tmp_path / "e")


def test_more_than_20000_files_need_yes(tmp_path: Path) -> None:
    message = refused("more than 20,000", "vgg16-w4a4-s8", "--layer", "features.36", "--out", tmp_path / "d")
    assert "73,858 files" in message  # 64*64*9 weight and psum files each, 64 activation and output files, 2
    assert not (tmp_path / "d").exists()


def test_a_disk_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from systolith.flows import vectors as flow

    monkeypatch.setattr(flow, "disk_of", lambda out: (4096, 10_000))
    with pytest.raises(BadInput, match=r"22 files of 0.1 MB need 0.\d MB of disk, 0.0 MB are free"):
        flow.vectors(layer="features.27", out=tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_the_free_bytes_are_those_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    block, free = disk_of(tmp_path / "not" / "yet" / "there")
    there = os.statvfs(tmp_path)
    assert block == there.f_frsize
    assert abs(free - there.f_bavail * there.f_frsize) < 1 << 30  # others write too


def test_an_overflow_in_one_of_many_layers_leaves_nothing(tmp_path: Path) -> None:
    for jobs in ("1", "2"):
        refused(
            "classifier output of oc_tile 0",
            *("--layer", "features.27,classifier", "--psum-bits", "16", "--act-bits", "8"),
            *("--weight-bits", "8", "--jobs", jobs, "--out", tmp_path / "d"),
        )
        assert list(tmp_path.iterdir()) == []


def test_own_integers_in_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", act=rng.integers(0, 16, (9, 4, 4)), weight=rng.integers(-7, 8, (9, 9, 1, 1)))
    out = tmp_path / "d"
    found = json.loads(vectors("--tensors", tmp_path / "t.npz", "--tiles", "1x2", "--no-psum", "--out", out, "--json"))
    assert found["folder"] == str(out)
    bundle, manifest = read_bundle(out)
    assert bundle.act.shape == (8, 4, 4)
    assert manifest["layer"]["name"] == "t (channels 0-7 -> 0-8 of 9 -> 9)"


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("no layer 'features.99'", ("--layer", "features.27,features.99")),
        ("a layer stands there twice", ("--layer", "features.27,features.27")),
        ("expected one model, found a and --model b", ("a", "--model", "b")),
        ("--jobs 0: expected at least 1", ("--jobs", "0")),
        ("tiles 0x1: expected at least one", ("--tiles", "0x1")),
        ("limit_nij 0: expected at least 1", ("--limit-nij", "0")),
        ("and psums to limit", ("--limit-nij", "4", "--no-psum")),
        ("--index '9-1': expected numbers such as", ("--data", "d", "--index", "9-1")),
        ("a picture stands there twice", ("--data", "d", "--index", "0-3,2")),
        ("goes without --tiles", ("--stimulus", "ramp", "--channels", "1x1", "--input", "3x3", "--tiles", "1x1")),
    ],
)
def test_bad_options(tmp_path: Path, said: str, options: tuple[str, ...]) -> None:
    refused(said, *options, "--out", tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
