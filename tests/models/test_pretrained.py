from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import pictures
from systolith.formats import BadInput, IntFormat
from systolith.models import Vgg16, VggConfig, build, config_of, load, load_pretrained, save_model, vgg
from systolith.quant import calibrate, quant_layers
from systolith.store import load_model_file, save_model_file, shipped_models
from training.narrow import PLAN


def test_logits_equal_the_checkpoints_bit_for_bit(random_model_file: Path) -> None:
    batch = torch.from_numpy(pictures(8))
    checkpoint = load_pretrained(str(random_model_file.with_name("last.pt")))
    shipped = load_pretrained(str(random_model_file))
    with torch.no_grad():
        assert torch.equal(checkpoint(batch), shipped(batch))


def test_per_channel_and_other_bits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "_PLAN", PLAN)
    torch.manual_seed(1)
    model = Vgg16(VggConfig(weight_bits=3, act_bits=2, first_weight_bits=8, per_channel=True, pixel_offset=128))
    calibrate(model, torch.from_numpy(pictures(4)))
    model.eval()
    save_model(model, tmp_path / "m.safetensors", {"note": 1})
    again, run = load(str(tmp_path / "m.safetensors"))
    assert run == {"note": 1}
    assert config_of(again) == config_of(model)
    batch = torch.from_numpy(pictures(2, seed=5))
    with torch.no_grad():
        assert torch.equal(model(batch), again(batch))


def test_a_loaded_model_is_for_eval(random_model_file: Path) -> None:
    model = load_pretrained(str(random_model_file))
    assert not model.training
    with pytest.raises(BadInput, match="float checkpoint"):
        model.train()
    assert all(layer.weight is None for layer in quant_layers(model).values())


def test_every_shipped_model_loads_and_answers() -> None:
    for name in shipped_models():
        with torch.no_grad():
            assert load_pretrained(name)(torch.from_numpy(pictures(2))).shape == (2, 10)


def test_unknown_and_foreign_files(tmp_path: Path, random_model_file: Path) -> None:
    with pytest.raises(
        BadInput, match="no model 'resnet': expected resnet20-w4a4, vgg16-w4a2-s16, vgg16-w4a4-s8, vgg16-w4a4, or"
    ):
        load("resnet")
    with pytest.raises(BadInput, match="no such model file"):
        load(str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(BadInput, match=r"text.pt: not a readable checkpoint"):
        load(str(tmp_path / "text.pt"))
    whole = random_model_file.with_name("last.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"cut.pt: not a readable checkpoint"):
        load(str(tmp_path / "cut.pt"))
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(BadInput, match="not a checkpoint of `systolith train`"):
        load(str(tmp_path / "foreign.pt"))
    state = torch.load(random_model_file.with_name("last.pt"), weights_only=True)
    state["config"]["squeeze_channels"] = 4
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(BadInput, match="not those of its own config"):
        load(str(tmp_path / "odd.pt"))
    for config in (
        {"arch": "resnet"},
        "vgg",
        [1],
        None,
        {"arch": ["vgg16"]},
        {"arch": "vgg16", "weight_bits": "4"},
        {"arch": "vgg16", "more": 1},
        {"arch": "mlp", "hidden": ["4"]},
        {"arch": "mlp", "squeeze_layer": None},
    ):
        with pytest.raises(BadInput, match=r"expected the config of a (network|vgg16|mlp) "):
            build(config)  # type: ignore[arg-type]
    for model in ([1], None, {"features.0.weight": 3}):
        torch.save({"config": config_of(Vgg16(VggConfig())), "model": model}, tmp_path / "odd.pt")
        with pytest.raises(BadInput, match=r"odd.pt: "):
            load(str(tmp_path / "odd.pt"))
    state = torch.load(random_model_file.with_name("last.pt"), weights_only=True)
    state["model"]["features.3.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan")  # recognised by its content, not its name
    with pytest.raises(BadInput, match=r"features\.3\.weight holds a value that is not a number"):
        load(str(tmp_path / "nan"))


def test_a_file_that_contradicts_itself(tmp_path: Path, random_model_file: Path) -> None:
    file = load_model_file(random_model_file)
    codes = {**file.codes, "features.3": replace(file.codes["features.3"], act_format=IntFormat(8, False))}
    save_model_file(tmp_path / "m.safetensors", replace(file, codes=codes))
    with pytest.raises(BadInput, match=r"layer features\.3: its config says int4 weights and uint4 activations"):
        load(str(tmp_path / "m.safetensors"))


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def test_a_pickle_with_code_is_refused_in_a_whole_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"config": {}, "model": _Code()}, tmp_path / "evil.pt")
    said = r"evil.pt: not a readable checkpoint, it holds code \(posix.system\), which was not run: expected tensors"
    with pytest.raises(BadInput, match=said):
        load(str(tmp_path / "evil.pt"))
    (tmp_path / "evil2.pt").write_bytes(pickle.dumps(_Code()))
    with pytest.raises(BadInput, match=r"neither a tensor nor a plain value, which was not loaded$"):
        load(str(tmp_path / "evil2.pt"))
    assert not (tmp_path / "ran").exists()
