"""What a testbench reads and says, from its syntax tree: the files that it opens, their headers, widths and loops.

Only what stands there is taken: names of literals, of `$sformat`, of parameters, concatenations, the branches of a
`case`, and arguments of the testbench's own tasks; loops with constant bounds. The rest is "not found".
"""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from systolith.projects.constants import number
from systolith.projects.project import Project

_FIELD = re.compile(r"%\d*[dDtTsS]")
_READS = re.compile(r"\$f(scanf|gets|getc|read)|\$feof")
_OPENS = ("$fopen", "$readmemb", "$readmemh")
_LOOPS = ("ForLoopStatement", "LoopStatement")


@dataclass(frozen=True)
class Opened:
    """A file that a testbench opens.

    Attributes:
        file, line: where the call stands.
        name: with `%d` as it is formatted; "" where it could not be found.
        fields: what is formatted into the name, as text.
        reads: or it writes.
        call: $fopen, $readmemb or $readmemh.
        radix: "bin", "hex" or "dec"; "" where it could not be found.
        header: lines or words that are skipped before the words.
        tokens: they are skipped as words, by `%s`.
        width: bits of a word; None where it could not be found.
        words: how many are read; None where it could not be found.
    """

    file: str
    line: int
    name: str
    fields: tuple[str, ...] = ()
    reads: bool = True
    call: str = "$fopen"
    radix: str = ""
    header: int = 0
    tokens: bool = True
    width: int | None = None
    words: int | None = None

    @property
    def pattern(self) -> re.Pattern[str]:
        """What the last part of the name may be, numbers where it is formatted."""
        parts = _FIELD.split(Path(self.name).name)
        return re.compile(r"\d+".join(map(re.escape, parts)))


@dataclass(frozen=True)
class Testbench:
    """What was found.

    Attributes:
        modules: names, in order.
        opened: files, in order.
        prints: texts of `$display` and its like.
    """

    modules: tuple[str, ...]
    opened: tuple[Opened, ...]
    prints: tuple[str, ...]


def opened(project: Project) -> tuple[Opened, ...]:
    """The files that a project's sources open by a known name; none without pyslang."""
    if importlib.util.find_spec("pyslang") is None:
        return ()
    found: list[Opened] = []
    for source in project.sources:
        text = (project.root / source).read_text(errors="replace")
        if re.search(r"\$fopen|\$readmem", text):
            found += [one for one in read_testbench(text, source).opened if one.name]
    return tuple(found)


@dataclass
class _Seen:
    """What the walk over a tree has come by."""

    # What is assigned to names, and where.
    values: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    numbers: dict[str, int] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    calls: dict[str, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))
    formals: dict[str, list[str]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    events: list[_Event] = field(default_factory=list)
    prints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Event:
    """A call that opens, reads or closes: its arguments, the variable it gives, and the loops around it."""

    name: str
    arguments: list[Any]
    target: str
    loops: tuple[tuple[int, int | None], ...]  # where the loop stands, how often it goes
    offset: int


def read_testbench(text: str, file: str) -> Testbench:
    """What a source opens, reads and prints; needs pyslang."""
    from pyslang.syntax import SyntaxTree

    tree = SyntaxTree.fromText(text)
    seen = _Seen()
    _declare(tree.root, seen)
    _collect(tree.root, seen, (), "")
    line = _lines(text)
    found: list[Opened] = []
    for at, event in enumerate(seen.events):
        if event.name in _OPENS[1:]:
            for name, fields in _names(event.arguments[0], seen, event.offset):
                memory = str(event.arguments[1]).strip() if len(event.arguments) > 1 else ""
                base = re.match(r"[\w.]+", memory)
                key = base[0].split(".")[-1] if base else ""
                radix = "bin" if event.name.endswith("b") else "hex"
                found.append(
                    Opened(
                        *(file, line(event.offset), name, fields, True, event.name, radix),
                        width=seen.widths.get(key),
                        words=seen.depths.get(key),
                    )
                )
        elif event.name == "$fopen":
            mode = str(event.arguments[1]).strip().strip('"') if len(event.arguments) > 1 else "w"
            one = Opened(file, line(event.offset), "", reads=mode.startswith("r"))
            if one.reads:
                one = _scanned(one, event, seen.events[at + 1 :], seen)
            found += [
                replace(one, name=name, fields=fields)
                for name, fields in _names(event.arguments[0], seen, event.offset)
            ]
    return Testbench(tuple(seen.modules), tuple(found), tuple(seen.prints))


def _scanned(one: Opened, opening: _Event, after: list[_Event], seen: _Seen) -> Opened:
    """With the header, width and number of words that are read from the file before it is closed or opened anew."""
    header, tokens = 0, True
    for event in after:
        of = (
            str(event.arguments[-1] if event.name == "$fgets" else event.arguments[0]).strip()
            if event.arguments
            else ""
        )
        if event.name == "$fopen" and event.target == opening.target:
            break
        if of != opening.target:
            continue
        if event.name == "$fclose":
            break
        inside = [count for place, count in event.loops if (place, count) not in opening.loops]
        if event.name == "$fgets":
            header, tokens = header + _product(inside, 1), False
        elif event.name == "$fscanf" and len(event.arguments) > 1:
            form = re.search(r"%(\d*)([a-zA-Z])", _text(event.arguments[1]) or "")
            skips = re.search(r"\\n|\[\^", _text(event.arguments[1]) or "")
            if form is None or form[2].lower() in "sc" or "%*" in (_text(event.arguments[1]) or ""):
                header, tokens = header + _product(inside, 1), tokens and not (skips and form and form[2] == "c")
                continue
            radix = {"b": "bin", "h": "hex", "x": "hex", "d": "dec"}.get(form[2].lower(), "")
            target = re.match(r"[\w.]+", str(event.arguments[2]).strip()) if len(event.arguments) > 2 else None
            key = target[0].split(".")[-1] if target else ""
            digits = int(form[1]) * {"hex": 4}.get(radix, 1) if form[1] and radix != "dec" else None
            words = None if None in inside else _product(inside, 1)
            return replace(
                one, radix=radix, header=header, tokens=tokens, width=digits or seen.widths.get(key), words=words
            )
    return replace(one, header=header, tokens=tokens)


def _product(counts: list[int | None], start: int) -> int:
    for count in counts:
        start *= count or 1
    return start


def _lines(text: str) -> Callable[[int], int]:
    return lambda offset: text.count("\n", 0, offset) + 1


def _kind(node: Any) -> str:
    return type(node).__name__.removesuffix("Syntax")


def _nodes(node: Any) -> Iterator[Any]:
    """The parts of a node that are no tokens."""
    for child in node:
        if hasattr(child, "sourceRange") and hasattr(child, "__iter__"):
            yield child


def _declare(node: Any, seen: _Seen) -> None:
    """Modules, parameters, widths and tasks, wherever they stand."""
    kind = _kind(node)
    if kind == "ModuleHeader":
        seen.modules.append(str(node.name).strip())
    elif kind in ("ParameterDeclaration", "DataDeclaration", "PortDeclaration", "LocalVariableDeclaration"):
        type_ = str(node.type if hasattr(node, "type") else "")
        width = _range(type_, seen)
        for one in node.declarators:
            if _kind(one) != "Declarator":
                continue
            name = str(one.name).strip()
            seen.widths[name] = width if width is not None else 32 if re.search(r"\b(integer|int)\b", type_) else 1
            behind = str(one).strip()[len(name) :].partition("=")[0]
            if (depth := _range(behind, seen)) is not None:
                seen.depths[name] = depth
            if one.initializer is not None:
                _assigned(name, one.initializer.expr, seen)
    elif kind == "FunctionPrototype":
        name = str(node.name).strip().split("::")[-1]
        ports = list(_nodes(node.portList)) if node.portList is not None else []
        formals = [p for one in ports for p in ([one] if _kind(one) == "FunctionPort" else list(_nodes(one)))]
        seen.formals[name] = [str(p.declarator.name).strip() for p in formals if _kind(p) == "FunctionPort"]
    for child in _nodes(node):
        _declare(child, seen)


def _assigned(name: str, value: Any, seen: _Seen) -> None:
    known = number(str(value), seen.numbers)
    if known is not None:
        seen.numbers.setdefault(name, known)
    seen.values[name].append((value.sourceRange.start.offset, value))


def _collect(node: Any, seen: _Seen, loops: tuple[tuple[int, int | None], ...], target: str) -> None:
    """Calls in the order of the text, with the loops around them; what is assigned to names."""
    kind = _kind(node)
    if kind in _LOOPS:
        loops = (*loops, (node.sourceRange.start.offset, _times(node, kind, seen)))
    elif kind == "BinaryExpression" and "Assignment" in str(getattr(node, "kind", "")):
        name = str(node.left).strip()
        seen.values[name].append((node.sourceRange.start.offset, node.right))
        target = name
    elif kind == "InvocationExpression":
        called = str(node.left).strip()
        arguments = list(_arguments(node))
        if called in ("$sformat", "$swrite") and len(arguments) > 1:
            seen.values[str(arguments[0]).strip()].append((node.sourceRange.start.offset, arguments[1:]))
        elif called in ("$fopen", "$fclose", "$readmemb", "$readmemh") or _READS.fullmatch(called):
            if arguments and called != "$feof":
                seen.events.append(_Event(called, arguments, target, loops, node.sourceRange.start.offset))
        elif called in ("$display", "$write", "$error", "$fatal", "$info", "$warning", "$strobe"):
            seen.prints += [text for one in arguments if (text := _text(one)) is not None]
        elif not called.startswith("$"):
            seen.calls[called].append(arguments)
    elif kind == "Declarator" and node.initializer is not None:
        target = str(node.name).strip()
    for child in _nodes(node):
        _collect(child, seen, loops, target)


def _arguments(call: Any) -> Iterator[Any]:
    if call.arguments is None:
        return
    for argument in _nodes(call.arguments):
        if _kind(argument) == "OrderedArgument":
            expression = argument.expr
            while _kind(expression) in ("SimplePropertyExpr", "SimpleSequenceExpr"):
                expression = expression.expr
            yield expression


def _text(node: Any) -> str | None:
    """The text of a string literal."""
    written = str(node).strip()
    return written[1:-1] if len(written) > 1 and written[0] == written[-1] == '"' else None


def _names(node: Any, seen: _Seen, before: int, depth: int = 0) -> list[tuple[str, tuple[str, ...]]]:
    """Every name that an expression can be, with what is formatted into it; [("", ())] where none is known."""
    unknown: list[tuple[str, tuple[str, ...]]] = [("", ())]
    if depth > 8:
        return unknown
    if isinstance(node, list):  # a format and its arguments
        formats = _names(node[0], seen, before, depth + 1)
        return [_formatted(form, node[1:], seen, before, depth) for form, _ in formats]
    text, kind = _text(node), _kind(node)
    if text is not None:
        return [(text, ())]
    if kind == "InvocationExpression" and str(node.left).strip() == "$sformatf":
        return _names(list(_arguments(node)), seen, before, depth + 1)
    if kind == "ParenthesizedExpression":
        return _names(node.expression, seen, before, depth + 1)
    if kind == "ConcatenationExpression":
        made: list[tuple[str, tuple[str, ...]]] = [("", ())]
        for part in _nodes(node):
            options = _names(part, seen, before, depth + 1)
            if options == unknown:
                return unknown
            made = [(name + more, (*fields, *others)) for name, fields in made for more, others in options]
        return made
    name = str(node).strip()
    given = [
        one for one in seen.values.get(name, []) if _kind(one[1]) != "IdentifierName" or str(one[1]).strip() != name
    ]
    # The nearest before it: those behind the last call that used the name for another file.
    used = [
        e.offset for e in seen.events if e.offset < before and e.name in _OPENS and str(e.arguments[0]).strip() == name
    ]
    near = [value for offset, value in given if max(used, default=-1) < offset < before]
    options = near or [value for _, value in given]
    for task, formals in seen.formals.items():
        if name in formals:
            options += [call[formals.index(name)] for call in seen.calls[task] if len(call) > formals.index(name)]
    found = [one for value in options for one in _names(value, seen, before, depth + 1)]
    known = list(dict.fromkeys(one for one in found if one[0]))
    return known or unknown


def _formatted(form: str, given: list[Any], seen: _Seen, before: int, depth: int) -> tuple[str, tuple[str, ...]]:
    """A format with the texts among its arguments put in, and the others' expressions."""
    fields, rest = [], iter(given)

    def put(match: re.Match[str]) -> str:
        one = next(rest, None)
        if one is not None and match[0][-1] in "sS":
            texts = _names(one, seen, before, depth + 1)
            if texts[0][0]:
                return texts[0][0]
        fields.append("" if one is None else str(one).strip())
        return "%0d"

    return _FIELD.sub(put, form), tuple(fields)


def _times(node: Any, kind: str, seen: _Seen) -> int | None:
    """How often a loop goes, where its bounds are constants."""
    if kind == "LoopStatement":
        is_repeat = str(node.repeatOrWhile).strip() == "repeat"
        return number(str(node.expr), seen.numbers) if is_repeat else None
    first = re.search(r"=\s*(.+)$", " ".join(str(one).strip() for one in node.initializers))
    stop = re.fullmatch(r"\s*\w+\s*(<=|<|>=|>|!=)\s*(.+?)\s*", str(node.stopExpr), re.S)
    if first is None or stop is None:
        return None
    begin, end = number(first[1], seen.numbers), number(stop[2], seen.numbers)
    if begin is None or end is None:
        return None
    count = abs(end - begin) + (stop[1] in ("<=", ">="))
    step = re.search(r"[+-]=?\s*(\d+)\s*$", " ".join(str(one).strip() for one in node.steps))
    return -(-count // int(step[1])) if step and int(step[1]) else count


def _range(text: str, seen: _Seen) -> int | None:
    """How many are in `[a:b]`, or `[n]`."""
    match = re.search(r"\[([^\]:]+)(?::([^\]]+))?\]", text)
    if match is None:
        return None
    high = number(match[1], seen.numbers)
    low = number(match[2], seen.numbers) if match[2] else None
    if match[2] is None or high is None or low is None:
        return high if match[2] is None else None
    return abs(high - low) + 1
