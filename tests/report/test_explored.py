"""What `explore` shows: its text, its pictures as facts read from the SVG, its page."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.calling import NO_TORCH, call, refuse
from report.browsing import open_page, started, violations
from systolith.designs.results import COSTS, pareto
from systolith.flows.explore import ExploreReport, explore
from systolith.report.designs import axis_of, layer_parts, ported_bits, roofs, shapes, stairs
from systolith.report.explore import text
from systolith.report.explored import plot_designs
from systolith.report.html.designs import figures
from systolith.report.html.figures import Designs, Scatter
from systolith.report.html.page import page, write_page
from systolith.report.parts import Table
from systolith.report.scales import Scale, short

SVG = "{http://www.w3.org/2000/svg}"
AXES = ["rows=4..12..4", "cols=4..12..4", "batch=1,2"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ExploreReport:
    """Eighteen designs of a network of a few layers."""
    return explore(
        model=str(_model(tmp_path_factory.mktemp("net"))), axis=AXES, top=3, out=tmp_path_factory.mktemp("out"), jobs=1
    )


def _model(folder: Path) -> Path:
    header = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
    (folder / "net.csv").write_text(
        f"{header}one, 18, 18, 3, 3, 8, 16, 1,\ntwo, 9, 9, 3, 3, 16, 20, 2,\nthree, 4, 4, 4, 4, 20, 10, 1,\n"
    )
    return folder / "net.csv"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as made:
        yield made


@pytest.fixture(scope="module")
def drawn(report: ExploreReport, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ElementTree.Element]:
    return _drawn(report, tmp_path_factory.mktemp("plots"))


def _drawn(report: ExploreReport, folder: Path) -> dict[str, ElementTree.Element]:
    return {path.name: ElementTree.parse(path).getroot() for path in plot_designs(report, folder)}


def _named(picture: ElementTree.Element, gid: str) -> list[ElementTree.Element]:
    """What the picture has of that id; a name that is there twice gets a number."""
    return [one for one in picture.iter() if re.fullmatch(rf"{gid}(_\\d+)?", one.get("id", ""))]


def _points(picture: ElementTree.Element, gid: str) -> int:
    return sum(len(list(one.iter(f"{SVG}use"))) for one in _named(picture, gid))


def _texts(picture: ElementTree.Element) -> list[str]:
    return ["".join(one.itertext()).strip() for one in picture.iter(f"{SVG}text")]


def _size(row: Any) -> str:
    return f"{row['rows']}x{row['cols']}"


def test_the_text_has_the_axes_that_differ_and_the_best_designs(report: ExploreReport) -> None:
    _, table, _ = text(report)
    assert isinstance(table, Table)
    assert table.headings[:4] == ("rows", "cols", "batch", "clocks a picture")
    assert [row[:4] for row in table.rows] == [
        (str(one["rows"]), str(one["cols"]), str(one["batch"]), f"{one['clocks_per_picture']:,.0f}")
        for one in report.top
    ]
    assert [row[-1] for row in table.rows] == ["*" if one["pareto"] else "" for one in report.top]


def test_the_front_has_every_design_and_its_steps_are_named(
    report: ExploreReport, drawn: dict[str, ElementTree.Element]
) -> None:
    picture = drawn["front.svg"]
    front = [row for row in report.rows if row["pareto"]]
    assert _points(picture, "designs") == len(report.rows) == 18
    assert _points(picture, "front") == len(front) == report.front
    (steps,) = _named(picture, "steps")
    path = steps[0].get("d", "")
    assert path.count("L") == 2 * (len(front) - 1)
    said = _texts(picture)
    assert sorted(one for one in said if re.fullmatch(r"\d+x\d+", one)) == sorted(map(_size, front))
    assert {"clocks a picture", "energy (most) a picture, uJ", "18 designs", f"{len(front)} on the front"} <= set(said)


def test_a_shape_has_the_best_of_the_other_axes(report: ExploreReport, drawn: dict[str, ElementTree.Element]) -> None:
    rows, cols, least = shapes(report.rows, "clocks_per_picture")
    assert rows == cols == [4, 8, 12]
    for (r, c), value in least.items():
        assert value == min(one["clocks"] / one["batch"] for one in report.rows if (one["rows"], one["cols"]) == (r, c))
    picture = drawn["shape.svg"]
    assert len([one for one in _named(picture, "cells")[0].iter() if one.tag in (f"{SVG}use", f"{SVG}path")]) >= 9
    said = _texts(picture)
    assert all(short(value) in said for value in least.values())
    assert {"rows of the array", "columns of the array", "clocks a picture, the least over all other axes"} <= set(said)


def test_layers_are_parts_of_bars_and_small_ones_share_one(
    report: ExploreReport, drawn: dict[str, ElementTree.Element]
) -> None:
    assert {*report.layers} == {row["point"] for row in report.top}
    layers = [report.layers[row["point"]] for row in report.top]
    parts = layer_parts(layers, 3)
    assert list(parts) == ["one", "two", "three"]
    assert [sum(widths) for widths in zip(*parts.values(), strict=True)] == [row["clocks"] for row in report.top]
    shared = layer_parts(layers, 2)
    assert list(shared) == ["one", "2 others"]
    assert shared["2 others"] == [a + b for a, b in zip(parts["two"], parts["three"], strict=True)]
    said = _texts(drawn["layers.svg"])
    assert {f"{_size(one)}, batch {one['batch']}" for one in report.top} | {"one", "two", "three"} <= set(said)


def test_no_design_is_above_its_roofs(
    report: ExploreReport, drawn: dict[str, ElementTree.Element], tmp_path: Path
) -> None:
    said = _texts(drawn["roofline.svg"])
    best = report.top[0]
    assert f"its array: {2 * best['rows'] * best['cols']} operations a clock" in said
    assert "no slope: not all of its ports have a limit" in said
    assert _named(drawn["roofline.svg"], "slope") == []
    assert _points(drawn["roofline.svg"], "designs") == 18

    ports = [
        "act_bandwidth=9,32",
        "weight_bandwidth=16",
        "psum_bandwidth=40",
        "schedule=auto,whole,useful,double,packed,packed-double,os",
    ]
    limited = explore(model=str(_model(tmp_path)), axis=[*AXES, *ports, "simd=1,2"], out=tmp_path / "out", jobs=1)
    for one in limited.rows:
        flat, slope = roofs(one)
        assert slope == one["act_bandwidth"] + 16 + 2 * 40
        assert 2 * one["macs"] <= flat * one["clocks"]
        assert ported_bits(one) <= slope * one["clocks"]
    picture = _drawn(limited, tmp_path / "plots")["roofline.svg"]
    assert len(_named(picture, "slope")) == 1
    assert f"its ports: {limited.top[0]['act_bandwidth'] + 96} bits a clock" in _texts(picture)


def test_models_have_panels_one_column_has_elements_and_flat_spaces_no_shape(tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "shape.svg").write_text("an older one")
    two = explore(model="resnet18,mobilenetv2", axis=["rows=4,8"], minimize="clocks", out=tmp_path / "out", jobs=1)
    pictures = _drawn(two, folder)
    assert set(pictures) == {"front.svg", "layers.svg", "roofline.svg"} == {path.name for path in folder.iterdir()}
    for picture in pictures.values():
        assert {"resnet18", "mobilenetv2"} <= set(_texts(picture))
    assert len(_named(pictures["front.svg"], "steps")) == 2
    assert {"processing elements", "clocks"} <= set(_texts(pictures["front.svg"]))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    plot_designs(two, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_steps_join_what_two_of_three_columns_leave_on_the_front() -> None:
    rng = random.Random(0)
    names = ("clocks", "traffic_bits", "capacity_bits")
    rows = [{name: rng.randint(1, 50) for name in names} for _ in range(60)]
    for row, there in zip(rows, pareto([[row[name] for name in names] for row in rows]), strict=True):
        row["pareto"] = there
    joined = stairs(rows, *names[:2])
    ys = [one["traffic_bits"] for one in joined]
    assert 1 < len(joined) < sum(row["pareto"] for row in rows)
    assert ys == sorted(ys, reverse=True)


@pytest.mark.parametrize(
    ("column", "said", "size"),
    [
        ("clocks", "clocks", 1),
        ("energy_low_pj_per_picture", "energy (least) a picture, uJ", 1e6),
        ("dram_energy_high_pj", "dram energy (most), uJ", 1e6),
        ("mac_energy_pj", "MAC energy, uJ", 1e6),
        ("traffic_bits", "traffic, MB", 8e6),
        ("psum_read_bits", "psum read, MB", 8e6),
        ("psum_bits", "bits of a psum", 1),
        ("psum_capacity_bits", "psum capacity, kB", 8e3),
        ("area_um2", "area, mm2", 1e6),
        ("multiplier_area_um2", "multiplier area, mm2", 1e6),
        ("elements", "processing elements", 1),
    ],
)
def test_an_axis_says_its_unit(column: str, said: str, size: float) -> None:
    assert axis_of(column) == (said, size)


def test_every_column_is_called_otherwise() -> None:
    assert len({axis_of(column)[0] for column in COSTS}) == len(COSTS)


@given(st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=5))
def test_a_scale_has_room_and_round_numbers(values: list[float]) -> None:
    scale = Scale.of(values)
    assert all(0 < scale.share(value) < 1 for value in values)
    assert scale.log == (10 * min(values) < max(values))
    assert len(scale.ticks) <= 10
    assert scale.ticks == sorted({*scale.ticks})
    assert all(-1e-9 <= scale.share(tick) <= 1 + 1e-9 for tick in scale.ticks)


def test_short_numbers_have_three_digits() -> None:
    assert [short(n) for n in (0.01234, 867, 999.6, 1000, 54_932_266, 2e9)] == [
        "0.0123",
        "867",
        "1k",
        "1k",
        "54.9M",
        "2G",
    ]


def test_without_matplotlib_it_is_said_before_anything_is_worked_out(tmp_path: Path) -> None:
    without = NO_TORCH.replace("'torch'", "'matplotlib'")
    given = ("explore", "--model", _model(tmp_path), "--out", tmp_path / "out", "--plots", tmp_path / "plots")
    refuse(call(*given, code=without), "needs matplotlib", "systolith[explore]")
    assert not (tmp_path / "out").exists()
    made = call(*given)
    assert made.returncode == 0, made.stderr
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"front.svg", "layers.svg", "roofline.svg"}


def test_of_many_designs_the_front_and_the_top_are_on_the_page(
    report: ExploreReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    scatter, designs = figures(report)
    assert isinstance(scatter, Scatter)
    assert isinstance(designs, Designs)
    assert len(scatter.marks) == len(designs.ids) == 18
    assert "left out" not in scatter.what + designs.what
    assert set(designs.parts) == {f"point-{row['point']}" for row in report.top}
    monkeypatch.setattr("systolith.report.html.designs.FEW", 4)
    scatter, designs = figures(report)
    assert isinstance(scatter, Scatter)
    assert isinstance(designs, Designs)
    assert len(scatter.marks) == len(designs.ids) == max(4, report.front)
    assert f"{18 - len(designs.ids)} of 18 designs are left out" in designs.what
    assert {mark.row for mark in scatter.marks if mark.best} == {
        f"point-{row['point']}" for row in report.rows if row["pareto"]
    }


def test_a_page_has_the_designs_once_and_says_the_same_each_time(report: ExploreReport) -> None:
    made = page(report, text(report))
    assert made == page(report, text(report))
    assert made.count('id="point-') == 18
    assert made.count('class="sorts"') == 1 + len(report.top)
    ids = re.findall(r'\bid="([^"]+)"', made)
    assert len(ids) == len({*ids})
    assert {*re.findall(r'href="#([^"]+)"', made)} <= {*ids}
    hostile = replace(report, rows=tuple({**row, "model": "<b>&"} for row in report.rows))
    assert "<b>" not in page(hostile, text(hostile))


def test_a_point_leads_to_its_row_and_a_row_to_its_layers(report: ExploreReport, browser: Any, tmp_path: Path) -> None:
    best = report.top[0]["point"]
    write_page(report, tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    links = browser.find_elements("css selector", ".scatter a")
    leads = {link.get_dom_attribute("href"): link for link in links}
    assert set(leads) == {f"#point-{n}" for n in range(18)}
    reached = [lead for lead, link in leads.items() if link.get_dom_attribute("tabindex") is None]
    assert sorted(reached) == sorted(f"#point-{row['point']}" for row in report.rows if row["pareto"])

    def focused() -> Any:
        return browser.switch_to.active_element

    browser.find_element("css selector", "input[data-filter]").send_keys("nothing has this")
    row = browser.find_element("id", f"point-{best}")
    assert not row.is_displayed()
    browser.execute_script("arguments[0].focus()", leads[f"#point-{best}"])
    focused().send_keys("\n")
    assert row.is_displayed()
    assert focused() == row
    assert row.text.split()[:4] == [str(report.top[0][name]) for name in ("point", "rows", "cols", "batch")]
    layers = browser.find_element("id", f"parts-point-{best}")
    assert not layers.is_displayed()
    row.find_element("tag name", "a").send_keys("\n")
    assert layers.is_displayed()
    assert focused() == layers
    shown = [one.text.split()[:4] for one in layers.find_elements("css selector", "tbody tr")]
    rows = report.layers[best]
    assert shown == [[one["layer"], "1", one["schedule"], f"{one['clocks']:,}"] for one in rows]
    assert violations(browser) == []
