"""A browser without a window, and without a network: what a page asks for, and what it complains of, is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCREENS = Path(__file__).parents[2] / "build" / "screens"
"""Screenshots for a person to look at."""
WIDE, NARROW = (1280, 1600), (390, 1600)


@contextmanager
def started() -> Iterator[Any]:
    """Debian's Chromium by selenium; where it is missing, the test is left out and says so (in CI it fails)."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        if os.environ.get("CI"):
            raise FileNotFoundError("chromium and chromedriver: apt-get install chromium chromium-driver")
        pytest.skip("no chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking")
    for flag in (*flags, "disable-component-update", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield made
    finally:
        made.quit()


def open_page(browser: Any, path: Path, size: tuple[int, int] = WIDE, dark: bool = False) -> None:
    """Load a page; it must not complain, nor ask for anything but itself."""
    browser.get_log("browser"), browser.get_log("performance")
    browser.set_window_size(*size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(path.as_uri())
    assert complaints(browser) == []
    asked = requests(browser)
    assert path.as_uri() in asked
    assert [url for url in asked if url != path.as_uri() and not url.startswith("data:")] == []


def complaints(browser: Any) -> list[str]:
    """What the console has of warnings and errors."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """The addresses that were asked for since they were looked at last."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def screenshot(browser: Any, name: str) -> Path:
    """The whole page as a picture."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    high = browser.execute_script("return document.documentElement.scrollHeight")
    browser.set_window_size(browser.get_window_size()["width"], min(high + 200, 8000))
    path = SCREENS / f"{name}.png"
    assert browser.save_screenshot(str(path))
    return path


def violations(browser: Any) -> list[str]:
    """What axe-core finds."""
    from axe_core_python.selenium import Axe

    found = Axe().run(browser)["violations"]
    return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]


def wide(browser: Any) -> bool:
    """Whether the page as a whole has to be scrolled sideways."""
    return bool(browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth"))
