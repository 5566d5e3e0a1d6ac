"""`systolith cosim`: layers on the core in a real simulator, every word and every clock compared. Needs no torch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from systolith.cli.command import Shown, verb
from systolith.requests.option import Option
from systolith.requests.shared import OUTPUT
from systolith.requests.verbs import CosimRequest

Diagram = Annotated[Path | None, Option("Draw the run's timing diagram into this .svg (of a single layer).", OUTPUT)]


@verb(CosimRequest)
def cosim(*, diagram: Diagram = None, **given: Any) -> Shown:
    from systolith.formats import BadInput
    from systolith.hardware.cosim import cosim
    from systolith.report.cosim import draw, text
    from systolith.steps.common import go_without, require_extra

    if diagram is None:
        return cosim(**given), text
    if given["random"] is not None:
        go_without("--random makes its own layers: it", {"--diagram": diagram})
    require_extra("pywellen", "waves", "cosim --diagram")
    if diagram.suffix != ".svg":
        raise BadInput(f"--diagram {diagram}: expected a name that ends in .svg")
    with tempfile.TemporaryDirectory(prefix="systolith-") as folder:
        given["waves"] = given["waves"] or Path(folder) / "waves.vcd"
        report = cosim(**given)
        try:
            draw(report, given["waves"], diagram)
        except BadInput as error:  # of a core that does something else: the verdict is what matters
            given["progress"](f"no diagram: {error}")
    return report, text
