"""`lower`, `verify`, and what works on integers alone, as a user types them."""

from __future__ import annotations

import filecmp
from dataclasses import replace
from pathlib import Path

import pytest

from cli.calling import NO_TORCH, call, one_object, refuse
from systolith.store import Codes, ModelFile, load_model_file, save_model_file

# 13 convolutions' maps, before pooling: 2*64*32*32 + 2*128*16*16 + 3*256*8*8 + (8 + 8 + 512)*4*4 + 3*512*2*2
CODES = 131072 + 65536 + 49152 + 8448 + 6144


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory, random_model_file: Path) -> Path:
    """A random model with its integer network."""
    path = tmp_path_factory.mktemp("lowered") / "both.safetensors"
    result = call("lower", random_model_file, "--out", path)
    assert result.returncode == 0, result.stderr
    assert "thresholds proved at" in result.stdout.splitlines()[-1]
    return path


def test_verify_proves_and_compares_every_code(lowered: Path) -> None:
    value = one_object(call("verify", lowered, "--limit", 5, "--json"))
    assert value["holds"] is True
    assert (value["images"], value["codes"], value["different"]) == (5, 5 * CODES, 0)
    assert value["logits"] == {"compared": 50, "different": 0}
    assert len(value["layers"]) == 13
    assert value["network"] == "in the model file"
    assert all(p["different"] == 0 and p["compared"] > 0 for p in value["proofs"])
    result = call("verify", lowered, "--limit", 5)
    assert result.stdout.splitlines()[-1] == f"verdict     proved and equal: 0 of {5 * CODES:,} codes differ, 5 images"
    assert "seeded random pixels" in result.stdout


def test_a_model_that_is_not_lowered_is_lowered_now(random_model_file: Path) -> None:
    assert one_object(call("verify", random_model_file, "--limit", 1, "--json"))["network"] == "lowered now"
    checkpoint = random_model_file.with_name("last.pt")
    assert one_object(call("verify", checkpoint, "--limit", 1, "--json"))["holds"] is True


def test_without_data_256_seeded_pictures_are_run_and_said(lowered: Path) -> None:
    value = one_object(call("verify", lowered, "--json"))
    assert value["codes"] == 256 * CODES
    assert value["pictures"] == "256 of seeded random pixels (--data DIR takes real ones)"
    assert value["correct"] == {}


def test_narrow_accumulators(lowered: Path) -> None:
    # 24 bits are safe for every layer; 9 are not.
    value = one_object(call("verify", lowered, "--limit", 2, "--psum-bits", 24, "--json"))
    for mode in ("wrap", "saturate"):
        assert (value["narrow"][mode]["changed"], value["narrow"][mode]["same_class"]) == (0, 2)
    assert max(value["least_psum_bits"].values()) <= 24
    value = one_object(call("verify", lowered, "--limit", 2, "--psum-bits", 9, "--json"))
    for mode in ("wrap", "saturate"):
        assert value["narrow"][mode]["changed"] > 0
        assert value["narrow"][mode]["accumulators"] == 2 * CODES
    refuse(call("verify", lowered, "--psum-bits", 1), "psum_bits 1: expected 2 to 48")


def saved(path: Path, file: ModelFile) -> Path:
    save_model_file(path, file)
    return path


@pytest.mark.parametrize("layer", ["features.3", "features.29"])
def test_one_weight_code_is_located(lowered: Path, tmp_path: Path, layer: str) -> None:
    file = load_model_file(lowered)
    codes = file.codes[layer]
    values = codes.values.copy()
    values[5, 3, 1, 2] += 1 if values[5, 3, 1, 2] < 7 else -1
    mutant = Codes(values, codes.format, codes.scale, codes.act_format)
    path = saved(tmp_path / "w.safetensors", replace(file, codes={**file.codes, layer: mutant}))
    result = call("verify", lowered, "--network", path, "--limit", 4)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert f"NOT PROVED: {layer} weights" in last
    assert "[oc 5, ic 3, ki 1, kj 2]" in last


def test_one_threshold_by_one_is_located(lowered: Path, tmp_path: Path) -> None:
    from systolith.network.file import add_network, network_of

    file = load_model_file(lowered)
    network = network_of(file, lowered)
    assert network is not None
    name = "features.7>features.10"
    node = network.requantizes[name]
    values = node.thresholds.values.copy()
    # One that is alone at its place and within reach, so that moving it changes a code.
    row = values[11]
    k = next(k for k in range(1, 15) if row[k - 1] + 1 < row[k] <= node.thresholds.mirrored_range()[1][11])
    row[k] -= 1
    mutant = replace(node, thresholds=replace(node.thresholds, values=values))
    steps = tuple(replace(s, node=mutant) if s.name == name else s for s in network.steps)
    path = saved(tmp_path / "t.safetensors", add_network(file, replace(network, steps=steps)))
    result = call("verify", lowered, "--network", path, "--limit", 4)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert f"NOT PROVED: {name} thresholds" in last
    assert "first difference: [channel 11, accumulator" in last
    assert f"expected {k}, found {k + 1}" in last


def test_one_batch_norm_sign_is_located(lowered: Path, tmp_path: Path) -> None:
    # The trained side changes, the integers stay: the proof names the channel, and so does the first wrong code.
    file = load_model_file(lowered)
    gamma = file.floats["features.15.weight"].copy()
    gamma[9] *= -1
    path = saved(tmp_path / "b.safetensors", replace(file, floats={**file.floats, "features.15.weight": gamma}))
    result = call("verify", path, "--limit", 4)
    assert result.returncode == 1
    assert "NOT PROVED: features.14>features.17 thresholds" in result.stdout.splitlines()[-1]
    assert "[channel 9, " in result.stdout.splitlines()[-1]
    first = next(line for line in result.stdout.splitlines() if line.startswith("first"))
    assert "layer features.14>features.17, channel 9, pixel (" in first
    for part in ("image ", "accumulator ", "threshold T[", "expected code ", "found "):
        assert part in first


def test_damaged_and_foreign_files(lowered: Path, random_model_file: Path, tmp_path: Path) -> None:
    whole = lowered.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-1000])
    refuse(call("verify", cut), "not a readable model file")
    flipped = tmp_path / "flipped.safetensors"
    flipped.write_bytes(whole[:-70000] + bytes([whole[-70000] ^ 1]) + whole[-69999:])
    refuse(call("verify", flipped), "its tensors are not those that were written (SHA-256)")
    refuse(call("verify", lowered, "--network", random_model_file), "without its integer network")
    refuse(call("verify", tmp_path / "none.safetensors"), "no such model file")
    refuse(call("lower", lowered, "--out", lowered), "exists already")
    refuse(call("info", random_model_file, "--nodes"), "holds no integer network")


def test_another_models_network_is_refused(lowered: Path, tmp_path: Path) -> None:
    from systolith.models import Vgg16, VggConfig, save_model

    save_model(Vgg16(VggConfig()).eval(), tmp_path / "plain.safetensors", {})
    refuse(call("verify", tmp_path / "plain.safetensors", "--network", lowered), "is not this model's", "features.24")


def test_integers_only(lowered: Path, tmp_path: Path) -> None:
    path = tmp_path / "integers.safetensors"
    value = one_object(call("lower", lowered, "--integers-only", "--fixed-point", "--out", path, "--json"))
    assert value["files"] == [str(path)]
    assert len(value["fixed_point"]) == 13
    assert all(2 <= form["multiplier_bits"] <= 32 for form in value["fixed_point"])
    file = load_model_file(path)
    assert not file.floats
    assert all(codes.scale is None for codes in file.codes.values())
    assert one_object(call("verify", lowered, "--network", path, "--limit", 1, "--json"))["holds"] is True
    refuse(call("run", "--model", path, "--out", tmp_path / "v"), "holds only the integers of a network")
    listed = one_object(call("info", path, "--nodes", "--json"))["nodes"]
    assert (listed[0]["node"], listed[-1]["node"]) == ("Input", "Argmax")
    refuse(call("lower", lowered, "--fixed-point", "--multiplier-bits", 4), "the multiplier needs", "bits, given 4")


@pytest.mark.parametrize(
    ("layer", "flags"),
    [
        ("features.27", ()),
        ("features.0", ("--act-bits", 8)),
        ("classifier", ("--act-bits", 8, "--weight-bits", 8, "--psum-bits", "auto")),
    ],
)
def test_vectors_without_torch_are_those_of_run(
    lowered: Path, tmp_path: Path, layer: str, flags: tuple[object, ...]
) -> None:
    options = ("--model", lowered, "--layer", layer, *flags)
    ran = call("run", *options, "--out", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    assert "all equal" in ran.stdout.splitlines()[-1]
    wrote = call("vectors", *options, "--out", tmp_path / "vectors", code=NO_TORCH)
    assert wrote.returncode == 0, wrote.stderr
    names = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "vectors").iterdir())
    match, mismatch, errors = filecmp.cmpfiles(tmp_path / "run", tmp_path / "vectors", names, shallow=False)
    assert (match, mismatch, errors) == (names, [], [])
    refuse(
        call("vectors", "--model", lowered, "--layer", "features.1", "--out", tmp_path / "x"), "no layer 'features.1'"
    )


def test_without_torch_a_model_that_is_not_lowered_says_what_to_do(random_model_file: Path, tmp_path: Path) -> None:
    args = ("vectors", "--model", random_model_file, "--out", tmp_path / "v")
    refuse(call(*args, code=NO_TORCH), "not lowered yet", "pip install 'systolith[torch]'")
    assert call(*args).returncode == 0  # with torch it is lowered now
