"""The page of a `verify` that fails: where codes differ, and the products of the accumulators there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from report.browsing import open_page, started, violations
from systolith.flows.verify import verify
from systolith.network.file import add_network, network_of
from systolith.network.reference import run
from systolith.report.html.codes import maps
from systolith.report.html.page import write_page
from systolith.steps.compared import pictures_to_compare
from systolith.store import load_model_file, model_path, save_model_file


def test_a_code_that_differs_is_told_down_to_the_products_of_its_accumulator(tmp_path: Path) -> None:
    # The shipped network with a threshold of one channel moved to where a picture's accumulator is.
    path = model_path("vgg16-w4a4-s8")
    file = load_model_file(path)
    network = network_of(file, path)
    assert network is not None
    name, channel, place = "features.24>features.27", 3, (1, 3, 2, 1)
    pixels = pictures_to_compare(None, 2, network.values[network.input.name].shape)[0]
    acc = run(network, pixels, network.producer(name))[network.producer(name)]
    node = network.requantizes[name]
    values, value = node.thresholds.values.copy(), int(acc[place]) * int(np.sign(node.thresholds.sign[channel]))
    reached = int((values[channel] <= value).sum())
    values[channel][:reached] = np.minimum(values[channel][:reached], value)
    values[channel][reached:] = np.maximum(values[channel][reached:], value + 1)
    values[channel, reached] = value
    mutant = replace(node, thresholds=replace(node.thresholds, values=values))
    changed = replace(network, steps=tuple(replace(s, node=mutant) if s.name == name else s for s in network.steps))
    save_model_file(tmp_path / "changed.safetensors", add_network(file, changed))
    report = verify("vgg16-w4a4-s8", network=tmp_path / "changed.safetensors", limit=2)
    assert not report.holds

    before, after = (run(n, pixels)[name] for n in (network, changed))
    wrong = {tuple(map(int, at)) for at in np.argwhere(before != after)}
    assert place in wrong
    first = next(maps(report))
    assert first.title == f"Where codes of {name} differ"
    assert list(first.rows) == [f"channel {channel}"]
    assert sum(value or 0 for value in first.values[0]) == len(wrong)
    found = 0
    for text in first.details.values():
        for told in text.split("\n\n"):
            match = re.match(r"picture (\d+), channel (\d+), \((\d+), (\d+)\): expected (-?\d+), found (-?\d+)", told)
            assert match is not None
            image, c, i, j, expected, got = map(int, match.groups())
            assert (expected, got) == (before[image, c, i, j], after[image, c, i, j])
            if "products" in told:
                total = int(acc[image, c, i, j])
                assert f"add up to {total}\n" in told
                parts = [int(part) for part in re.findall(r"kij \d+: (-?\d+) =", told)]
                assert (len(parts), sum(parts)) == (9, total)
                found += 1
    assert found

    page = tmp_path / "page.html"
    write_page(report, page)
    with started() as browser:
        open_page(browser, page)
        assert violations(browser) == []
        button = browser.find_element("css selector", ".heat button")
        button.click()
        told = browser.find_element("id", button.get_attribute("data-for")).text
        assert told == next(iter(first.details.values()))
