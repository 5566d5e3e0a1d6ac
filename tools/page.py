"""Take README's picture of a page, docs/img/page.png, from a real run. Needs Chromium.

python tools/page.py
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import systolith as sl
from blocks import ROOT

SIZE = "1280,1180"
PICTURE = ROOT / "docs" / "img" / "page.png"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        sl.write_page(sl.run(out=Path(folder) / "run"), page)
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--hide-scrollbars",
        ]
        command = ["chromium", *flags, f"--window-size={SIZE}", f"--screenshot={PICTURE}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
