"""Write the map of the rooms into docs/architecture.md, public names into docs/reference, topologies into their page.

python tools/architecture.py           # rewrite
python tools/architecture.py --check   # exit code 1 if they are out of date
"""

from __future__ import annotations

import ast
from dataclasses import MISSING
from pathlib import Path

import rooms
import systolith
from blocks import ROOT, rewrite
from systolith.requests import verbs
from systolith.requests.option import options_of
from systolith.topologies import BUILT_IN, built_in

PACKAGE = ROOT / "src" / "systolith"


def _summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    return text.split(". ")[0].rstrip(".")


def room_map() -> str:
    """Every room, what it holds, and what it may import."""
    lines = ["| room | holds | may import |", "|---|---|---|"]
    for name in rooms.GROUND:
        lines.append(f"| `{name}.py` | {_summary(PACKAGE / f'{name}.py')} | the ground floor before it |")
    for name, names in rooms.ROOMS.items():
        holds = _summary(PACKAGE / name / "__init__.py")
        may = ", ".join(f"`{other}`" for other in names) or "the ground floor"
        lines.append(f"| `{name}/` | {holds} | {may} |")
    return "\n".join(lines)


def _arguments(request: type) -> list[str]:
    """What a verb takes, as a table: it is made of the request when it is imported, so the source does not show it."""
    lines = ["| argument | default | what for |", "|---|---|---|"]
    for name, (_, option, default) in options_of(request).items():
        shown = "required" if default is MISSING else f"`{str(default) if isinstance(default, Path) else default!r}`"
        lines.append(f"| `{name}` | {shown} | {option.help.replace('|', chr(92) + '|')} |")
    return lines


def public_names() -> str:
    """A block for mkdocstrings for every public name, where it is defined."""
    lines = []
    for name in systolith.__all__:
        thing = getattr(systolith, name)
        home, there = thing.__module__, thing.__name__
        lines += [f"### `systolith.{name}`", "", f"::: {home}.{there}", "    options:"]
        lines += ["      show_root_heading: false", "      skip_local_inventory: true"]
        lines += [""]
        if home.startswith(("systolith.flows.", "systolith.hardware.")):
            verb = name.removesuffix("_model")  # `import` is no name for a function
            lines += [*_arguments(getattr(verbs, f"{verb.capitalize()}Request")), ""]
    return "\n".join(lines).rstrip()


def topologies() -> str:
    """A table of the built-in topologies."""
    lines = ["| name | layers | entries | GMACs | |", "|---|---|---|---|---|"]
    for name in BUILT_IN:
        topology = built_in(name)
        layers = sum(layer.count for layer in topology.layers)
        cells = f"`{name}`", f"{layers}", f"{len(topology.layers)}", f"{topology.macs / 1e9:.3f}"
        lines.append(f"| {' | '.join(cells)} | {'; '.join(topology.notes[1:])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    blocks = [
        ("docs/architecture.md", "rooms:", room_map()),
        ("docs/reference/index.md", "names:", public_names()),
        ("docs/topologies.md", "topologies:", topologies()),
    ]
    rewrite(blocks)
