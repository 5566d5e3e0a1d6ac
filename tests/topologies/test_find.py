from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from systolith.formats import BadInput
from systolith.topologies import find_topology


def test_by_name_and_by_file(tmp_path: Path) -> None:
    assert find_topology("resnet18").name == "resnet18"
    (tmp_path / "net.CSV").write_text("Layer, M, N, K,\ng, 2, 3, 4,\n")
    shape = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], [0.0] * 12)
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", shape, result, [weight])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    for name in ("net.CSV", "net.onnx"):
        topology = find_topology(str(tmp_path / name), act_bits=3, weight_bits=5)
        assert (topology.source, topology.macs) == (name, 2 * 3 * 4)
        assert [str(topology.layers[0].conv.act_format), str(topology.layers[0].conv.weight_format)] == ["int3", "int5"]


@pytest.mark.parametrize("name", ["vgg19", "net.txt", "", "net.onnx.gz"])
def test_what_is_neither(name: str) -> None:
    with pytest.raises(BadInput, match=r"no topology '.*': expected a \.csv or \.onnx file or one of vgg16, vgg16-i"):
        find_topology(name)


@pytest.mark.parametrize("name", ["none.csv", "none.onnx"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=rf"{name}: cannot be read \(No such file or directory\)"):
        find_topology(str(tmp_path / name))


@pytest.mark.parametrize("name", ["topology", "built_in", "find"])
def test_the_examples_are_true(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"systolith.topologies.{name}"))
    assert results.attempted
    assert not results.failed


def test_the_page_shows_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "topologies.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found
    exec(found[1], {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [layer.name for layer in find_topology("resnet18").layers]
    # 256 multipliers: no layer in fewer clocks than that.
    assert all(int(clocks) * 256 >= int(macs) for _, _, macs, clocks in lines)
