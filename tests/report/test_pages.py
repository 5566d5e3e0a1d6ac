"""Pages of reports in a browser: what they show is what the report holds, and they ask for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.calling import call, refuse
from conftest import Find
from report.browsing import NARROW, WIDE, complaints, open_page, screenshot, started, violations, wide
from systolith.array import ArraySpec, Mapping
from systolith.equality import Equality
from systolith.flows.check import check
from systolith.flows.evaluate import evaluate
from systolith.flows.explore import explore
from systolith.flows.flow import Report
from systolith.flows.grade import grade
from systolith.flows.run import run
from systolith.flows.simulate import simulate
from systolith.flows.train import train
from systolith.flows.vectors import vectors
from systolith.flows.verify import verify
from systolith.hardware.cosim import cosim
from systolith.hardware.mutate import mutate
from systolith.mutation import bench
from systolith.network import Conv
from systolith.report.html.arrays import animation, timing, worked
from systolith.report.html.page import page, write_page
from systolith.store import ASSETS
from systolith.timing import Schedule
from systolith.timing.machine import REGISTERS, machine
from systolith.timing.schedule import utilisation

VERBS = ("run", "verify", "check", "grade", "simulate", "cosim", "mutate", "evaluate", "train", "explore")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as made:
        yield made


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, simulator: Find) -> dict[str, Report]:
    """A report of every verb, small."""
    simulator("icarus")
    folder = tmp_path_factory.mktemp("pages")
    vectors(out=folder / "bundle")
    shutil.copytree(folder / "bundle", folder / "wrong")
    for name, at in (("out.txt", 5), ("psum_itile0_otile0_kij2.txt", 10)):
        lines = (folder / "wrong" / name).read_text().splitlines(keepends=True)
        lines[at] = lines[at].translate(str.maketrans("01", "10"))
        (folder / "wrong" / name).write_text("".join(lines))
    for split, name, count in (("train", "cat", 32), ("test", "cat", 2), ("test", "dog", 1), ("train", "dog", 1)):
        (folder / "pictures" / split / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(ASSETS / "cat.png", folder / "pictures" / split / name / f"{number}.png")
    pictures = str(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:  # the layers of one of nine cores
        patch.setattr(bench, "CORES", {"plain": bench.CORES["plain"]})
        mutated = mutate(modules="ofifo", limit=2, proofs=False)
    return {
        "run": run(out=folder / "run"),
        "verify": verify(limit=2),
        "check": check(folder / "bundle", folder / "wrong"),
        "grade": grade(folder / "bundle", faults=400),
        "simulate": simulate(layer="features.24,features.27"),
        "cosim": cosim(layer="features.27", sim="icarus"),
        "mutate": mutated,
        "evaluate": evaluate("vgg16-w4a4-s8", data=pictures),
        "train": train("smoke", pictures, folder / "trained", holdout=0, changes=["epochs=3", "batch=8"]),
        "explore": explore(axis=["rows=4..12..4", "cols=4..12..4"], top=3, out=folder / "explored", jobs=1),
    }


def test_there_is_a_report_of_every_verb(reports: dict[str, Report]) -> None:
    assert tuple(reports) == VERBS
    assert [report.verb for report in reports.values()] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_opens_alone_and_anybody_can_use_it(
    verb: str, reports: dict[str, Report], browser: Any, tmp_path: Path
) -> None:
    report = reports[verb]
    path = tmp_path / f"a page of {verb}.html"
    write_page(report, path)
    assert path.stat().st_size < 3_000_000
    for dark in (False, True):
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            open_page(browser, path, size, dark)
            assert report.verdict in browser.find_element("id", "verdict").text
            assert violations(browser) == []
            assert not wide(browser)
            screenshot(browser, f"{verb}-{'dark' if dark else 'light'}-{name}")
    assert complaints(browser) == []


def test_the_boxes_say_what_was_compared(reports: dict[str, Report], browser: Any, tmp_path: Path) -> None:
    states = {}
    for verb in ("run", "check", "cosim", "verify", "grade"):
        write_page(reports[verb], tmp_path / "page.html")
        open_page(browser, tmp_path / "page.html")
        boxes = browser.find_elements("css selector", ".chain > li")
        states[verb] = [box.find_element("class name", "state").text for box in boxes]
        assert len(boxes) == 5
    no, yes, bad = "not compared here", "holds", "does not hold"
    assert states["run"] == [yes, yes, yes, yes, no]
    assert states["check"] == [no, no, no, no, bad]
    assert states["cosim"] == [no, no, yes, no, yes]
    assert states["verify"] == [yes, yes, no, no, no]
    assert states["grade"] == [no, no, no, yes if reports["grade"].holds else bad, no]


def test_the_animation_shows_the_machines_values(reports: dict[str, Report], browser: Any, tmp_path: Path) -> None:
    report: Any = reports["simulate"]
    write_page(report, tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    home = browser.find_element("class name", "array")
    browser.execute_script(
        "const s = arguments[0].querySelector('.layer'); s.value = '1'; s.dispatchEvent(new Event('change'))", home
    )
    row = report.rows[1]
    block = next(machine(row.mapping, row.act, row.choice.schedule, block=1 << 20, trace=True))
    rng = np.random.default_rng(3)
    for at in sorted(rng.integers(12, 90, 3).tolist()):
        move = "const c = arguments[0].querySelector('.clock'); c.value = arguments[1]; "
        browser.execute_script(f"{move}c.dispatchEvent(new Event('input'))", home, at)
        assert int(home.get_attribute("data-clock")) == block.begin + at
        cells = home.find_elements("css selector", ".pes td:not(.in)")
        assert len(cells) == 64
        for number, cell in enumerate(cells):
            r, c = divmod(number, 8)
            held = {name: int(block.registers[name][r, c, at]) for name in REGISTERS}
            lines = cell.text.split("\n")
            assert lines[0] == f"w {held['weight']}"
            assert lines[-1] == f"p {held['psum']}"
            passing = f"a {held['code']}" if held["stream"] else f"→ {held['code']}" if held["load"] else None
            assert lines[1:-1] == ([passing] if passing else []), (r, c, at)


def test_the_animation_steps_plays_and_stops(reports: dict[str, Report], browser: Any, tmp_path: Path) -> None:
    write_page(reports["run"], tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    home = browser.find_element("class name", "array")
    begin = int(home.get_attribute("data-clock"))
    on, back, play = (home.find_element("class name", name) for name in ("on", "back", "play"))
    for _ in range(3):
        on.click()
    assert int(home.get_attribute("data-clock")) == begin + 3
    back.click()
    assert int(home.get_attribute("data-clock")) == begin + 2
    play.click()
    assert play.text == "Pause"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: int(home.get_attribute("data-clock")) > begin + 4)
    play.click()
    assert play.text == "Play"


def test_a_table_sorts_and_keeps_rows_with_a_text(reports: dict[str, Report], browser: Any, tmp_path: Path) -> None:
    report: Any = reports["verify"]
    write_page(report, tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    table = browser.find_element("css selector", "table.sorts")
    heading = table.find_elements("css selector", "thead button")[1]
    counts = sorted(one.compared for one in report.layers.values())

    def column() -> list[int]:
        cells = table.find_elements("css selector", "tbody tr:not([hidden]) td:nth-child(2)")
        return [int(cell.text.replace(",", "")) for cell in cells]

    heading.click()
    assert column() == counts
    heading.click()
    assert column() == counts[::-1]
    assert table.find_elements("css selector", "th")[1].get_attribute("aria-sort") == "descending"
    field = browser.find_element("css selector", "input[data-filter]")
    field.send_keys(next(iter(report.layers)))
    left = table.find_elements("css selector", "tbody tr:not([hidden])")
    assert 0 < len(left) < len(report.layers)
    assert browser.find_element("class name", "count").text == f"{len(left)} of {len(report.layers)} rows"


def test_a_wrong_word_is_chosen_and_explained(reports: dict[str, Report], browser: Any, tmp_path: Path) -> None:
    report: Any = reports["check"]
    write_page(report, tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    wrong = [one for one in report.maps if one.wrong.any()]
    assert {(one.name, int(one.wrong.sum())) for one in wrong} == {
        ("out.txt", 1),
        ("psum_itile0_otile0_kij2.txt", 1),
    }
    assert wrong[0].wrong[10 - 3]
    buttons = browser.find_elements("css selector", ".heat button")
    assert len(buttons) == 2
    for button, one in zip(buttons, wrong, strict=True):
        button.click()
        told = browser.find_element("id", button.get_attribute("data-for")).text
        assert told == one.words[0][1]
        assert one.name in told
    assert " + " in wrong[0].words[0][1]  # products


def test_hostile_names_are_text(browser: Any, tmp_path: Path, reports: dict[str, Report]) -> None:
    evil = "<script>document.title='x'</script>\"'&</script><img src=x onerror=alert(1)>"
    rng = np.random.default_rng(0)
    conv = Conv.of(rng.integers(-8, 8, (4, 4, 3, 3)), name=evil, padding=1)
    mapping, act = Mapping(conv, ArraySpec(4, 4, 4, 4, 16), 4, 4), rng.integers(0, 16, (4, 4, 4))
    report: Any = reports["simulate"]
    row = replace(report.rows[0], choice=replace(report.rows[0].choice, mapping=mapping), act=act)
    wrong = Equality(evil, 4, 1, evil)
    hostile = replace(report, rows=(row,), equalities=(wrong,), holds=False, verdict=evil, notes=(evil,), model=evil)
    path = tmp_path / "a \"page\" of 'quotes' & <signs>.html"
    write_page(hostile, path)
    open_page(browser, path)
    assert browser.title == f"systolith simulate: {evil}"
    assert evil in browser.find_element("id", "verdict").text
    assert len(browser.find_elements("tag name", "img")) == 0
    scripts = browser.find_elements("tag name", "script")
    assert [one.get_attribute("type") for one in scripts] == ["application/json", ""]
    assert evil in browser.find_element("css selector", ".chain").text
    assert violations(browser) == []


def test_the_theme_is_turned_round(browser: Any, tmp_path: Path, reports: dict[str, Report]) -> None:
    write_page(reports["evaluate"], tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    body = browser.find_element("tag name", "body")
    assert body.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    browser.find_element("id", "theme").click()
    assert body.value_of_css_property("background-color") == "rgba(20, 24, 29, 1)"
    assert violations(browser) == []
    pictures = browser.find_elements("css selector", ".pictures img")
    assert len(pictures) == 1  # a cat in the folder of dogs
    assert all(browser.execute_script("return arguments[0].naturalWidth", one) == 32 for one in pictures)


def test_a_big_array_is_shown_in_part_and_a_long_layer_from_its_beginning() -> None:
    rng = np.random.default_rng(1)
    conv = Conv.of(rng.integers(-8, 8, (24, 20, 3, 3)), name="big", padding=1)
    mapping, act = Mapping(conv, ArraySpec(20, 24, 4, 4, 16), 32, 32), rng.integers(0, 16, (20, 32, 32))
    made = animation([("big", mapping, act, Schedule())] * 40)
    assert "Rows and columns 0 to 15 of 20x24 are shown." in made.note
    assert len(made.layers) == 40
    first = made.layers[0]
    assert (first["rows"], first["cols"], first["clocks"]) == (16, 16, 24)
    assert len(first["psum"]) == 16 * 16 * 24
    assert "big on 20x24: the first 72 clocks" in timing(("big", mapping, act, Schedule())).svg


def test_every_product_of_the_layer_is_some_processing_elements() -> None:
    rng = np.random.default_rng(2)
    for groups, ins, outs in ((1, 5, 11), (3, 6, 9)):
        conv = Conv.of(rng.integers(-8, 8, (outs, ins // groups, 3, 2)), name="g", groups=groups, stride=(2, 1))
        mapping = Mapping(conv, ArraySpec(4, 4, 4, 4, 16), 7, 6)
        assert int(worked(mapping).sum()) == mapping.macs
        clocks = Schedule(useful=True).clocks(mapping)
        assert utilisation(mapping, clocks) == worked(mapping).sum() / (16 * clocks)
        for packed in (replace(mapping, packed=True), replace(mapping, spec=replace(mapping.spec, dataflow="os"))):
            assert int(worked(packed).sum()) == mapping.macs


def test_any_command_writes_its_page(tmp_path: Path) -> None:
    result = call("info", "vgg16-w4a4-s8", "--html", tmp_path / "info.html")
    assert result.returncode == 0
    text = (tmp_path / "info.html").read_text()
    assert "features.27" in text
    assert "<link" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    shown = call("view", tmp_path, process=True, DISPLAY="", WAYLAND_DISPLAY="")
    assert shown.returncode == 0
    assert str(tmp_path / "info.html") in shown.stdout
    assert "no display" in shown.stdout
    refuse(call("info", "--html", tmp_path / "info.txt"), "--html", ".html")
    refuse(call("view", tmp_path / "nothing"), "nothing", "expected a folder or an .html file")
    (tmp_path / "empty").mkdir()
    refuse(call("view", tmp_path / "empty"), "found no .html in it")


def test_a_page_says_the_same_each_time(reports: dict[str, Report]) -> None:
    from systolith.report.run import text

    report: Any = reports["run"]
    assert page(report, text(report)) == page(report, text(report))
