"""The text of `cosim --project` and of `project`."""

from __future__ import annotations

from systolith.hardware.project import ProjectCheckReport, ProjectNewReport, ProjectStartReport
from systolith.hardware.testbenches import ProjectReport
from systolith.report.parts import Part, Rows, Table

_MOST = 20


def project_text(report: ProjectReport) -> list[Part]:
    """A row a run; what the testbench says of those that failed; what it looks at; the hints."""
    runs = report.runs
    bad = [one for one in runs if one.end != "passed"]
    shown = runs if len(runs) <= _MOST else (*bad[: _MOST - 1], next((r for r in runs if r.end == "passed"), runs[-1]))
    rows = [
        (one.name, str(one.files), one.end, _words(one.words, one.different), f"{one.seconds:.2f}") for one in shown
    ]
    parts: list[Part] = [Table(("run", "files", "end", "dumped words", "s"), rows, ("files", "dumped words", "s"))]
    if len(shown) < len(runs):
        parts.append(f"... {len(runs):,} runs, {report.passed:,} passed")
    sim = report.simulator
    facts = [("simulator", f"{sim['name']} {sim['version']} ({sim['command']}), {report.seconds:.1f} s in all")]
    for one in bad[:1]:
        facts.append((one.end, one.said))
        facts += [("", line) for line in one.lines if line not in one.said]
        facts += [("change", one.change)] if one.change else []
    facts += [
        ("looks at" if i == 0 else "", f"{k}: {v.said}") for i, (k, v) in enumerate((report.controls or {}).items())
    ]
    facts += [("layout" if i == 0 else "", f"passes with {hint}") for i, hint in enumerate(report.hints)]
    facts += [("in core.toml" if i == 0 else "", edit) for i, edit in enumerate(report.edits)]
    if report.tried and not report.hints:
        facts.append(("layout", "no single change of it makes this testbench pass"))
    return [*parts, Rows([*facts, ("verdict", report.verdict)])]


def _words(words: int | None, different: int | None) -> str:
    return "" if words is None or different is None else f"{words - different:,} of {words:,}"


def check_text(report: ProjectCheckReport) -> list[Part]:
    """The files, opened and placed, side by side."""
    parts: list[Part] = []
    if report.opened:
        rows = [(f"{o.file}:{o.line}", o.name or "?", "reads" if o.reads else "writes", o.found) for o in report.opened]
        parts.append(Table(("where", "file", "", "found"), rows))
    facts = [("sources", ", ".join(report.sources)), ("files", ", ".join(report.placed))]
    facts += [("problem" if i == 0 else "", text) for i, text in enumerate(report.problems)]
    return [*parts, Rows([*facts, ("verdict", report.verdict)])]


def new_text(report: ProjectNewReport) -> list[Part]:
    """What was found and what was not."""
    rows = [(o.call, o.name or "?", o.tensor or "?", o.header, o.words, o.width) for o in report.opened]
    parts: list[Part] = [Table(("call", "file", "holds", "header", "words", "bits"), rows)] if rows else []
    facts = [("not found" if i == 0 else "", text) for i, text in enumerate(report.missing)]
    return [*parts, Rows([*facts, ("verdict", report.verdict)])]


def start_text(report: ProjectStartReport) -> list[Part]:
    """What was written and how to go on."""
    return [Rows([("files", ", ".join(report.files)), ("next", report.next), ("verdict", report.verdict)])]
