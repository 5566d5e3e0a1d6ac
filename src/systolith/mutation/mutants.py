"""The mutants of a SystemVerilog source: what its syntax tree lets one change, one place at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from systolith.formats import BadInput

OPERATORS = ("operator", "condition", "constant", "index", "width", "sign", "reset")
"""What a mutant changes: an operator for another; a condition to never and always; a number by one; a selected place
by one; the width of a declaration or a cast by one bit; what is signed; what a reset sets."""

_SWAPPED = {
    "AddExpression": "-",
    "SubtractExpression": "+",
    "MultiplyExpression": "+",
    "DivideExpression": "*",
    "ModExpression": "*",
    "LogicalAndExpression": "||",
    "LogicalOrExpression": "&&",
    "BinaryAndExpression": "|",
    "BinaryOrExpression": "&",
    "BinaryXorExpression": "|",
    "EqualityExpression": "!=",
    "InequalityExpression": "==",
    "LessThanExpression": "<=",
    "LessThanEqualExpression": "<",
    "GreaterThanExpression": ">=",
    "GreaterThanEqualExpression": ">",
    "LogicalShiftLeftExpression": ">>",
    "LogicalShiftRightExpression": "<<",
    "ArithmeticShiftLeftExpression": ">>>",
    "ArithmeticShiftRightExpression": ">>",
    "UnaryBitwiseAndExpression": "|",
    "UnaryBitwiseOrExpression": "&",
    "UnaryLogicalNotExpression": "",
    "UnaryBitwiseNotExpression": "",
    "UnaryMinusExpression": "",
}
_SIGNING = {"$signed": "$unsigned", "$unsigned": "$signed"}
_RESET = re.compile(r"[!~]?\s*\w*(reset|rst|restart|clear|clr)\w*(\s*==\s*1'b[01])?", re.IGNORECASE)


@dataclass(frozen=True)
class Mutant:
    """A source with one change.

    Attributes:
        file: the source's name.
        line, column: where the change begins, from 1.
        operator: of `OPERATORS`.
        before, after: the text there, and what stands there instead.
        start: of the text, in bytes.
        context: the whole line as it is, without the white space around it.
    """

    file: str
    line: int
    column: int
    operator: str
    before: str
    after: str
    start: int
    context: str

    @property
    def change(self) -> str:
        """What is changed, on one line."""
        return " ".join(f"{self.before} -> {self.after or '(nothing)'}".split())

    @property
    def name(self) -> str:
        """What tells it from every other mutant of these sources."""
        return f"{self.file}:{self.line}:{self.column} {self.operator} {self.change}"

    def apply(self, source: str) -> str:
        """The source with the change.

        Raises:
            BadInput: `source` is not the one that the mutant was made of.
        """
        text, before = source.encode(), self.before.encode()
        if text[self.start : self.start + len(before)] != before:
            raise BadInput(f"{self.name}: another text stands there: the source has changed")
        return (text[: self.start] + self.after.encode() + text[self.start + len(before) :]).decode()


_Change = tuple[str, Any, str]
"""An operator of `OPERATORS`, a node or token, and the text that replaces it."""


def mutants(source: str, file: str) -> tuple[Mutant, ...]:
    """Every mutant of a source, in the order of the text.

    Args:
        source: SystemVerilog; what a macro or an included file brings is left as it is.
        file: its name, for the mutants and for errors.

    Raises:
        BadInput: the source does not parse.
    """
    from pyslang.parsing import Token
    from pyslang.syntax import SyntaxTree

    tree = SyntaxTree.fromText(source, file)
    for problem in tree.diagnostics:
        if problem.isError():
            line = tree.sourceManager.getLineNumber(problem.location)
            raise BadInput(f"{file}:{line}: does not parse ({str(problem.code).partition('(')[2].rstrip(')')})")
    text, lines = source.encode(), source.splitlines()
    home = tree.root.sourceRange.start.buffer
    found: dict[tuple[int, int, str], Mutant] = {}
    for operator, place, after in _changes(tree.root, False):
        span = place.range if isinstance(place, Token) else place.sourceRange
        if span.start.buffer != home or span.end.buffer != home:
            continue
        start, end = span.start.offset, span.end.offset
        line = text.count(b"\n", 0, start)
        column = len(text[text.rfind(b"\n", 0, start) + 1 : start].decode()) + 1
        before = text[start:end].decode()
        mutant = Mutant(file, line + 1, column, operator, before, after, start, lines[line].strip())
        found.setdefault((start, end, after), mutant)
    return tuple(found[key] for key in sorted(found, key=lambda key: key[:2]))


def _changes(node: Any, declared: bool) -> Iterator[_Change]:
    """The changes of a node and of what is in it; `declared`: it is a dimension or a cast's size, which has its own."""
    from pyslang.syntax import SyntaxNode

    kind = node.kind.name
    if kind in _SWAPPED and not declared:
        yield "operator", node.operatorToken, _SWAPPED[kind]
    make = _MAKERS.get(kind)
    if make is not None and not declared:
        yield from make(node)
    for child in node:
        if isinstance(child, SyntaxNode):
            size = kind == "VariableDimension" or (
                kind == "CastExpression" and child.sourceRange == node.left.sourceRange
            )
            yield from _changes(child, declared or size)
        elif str(child.rawText) == "signed":
            yield "sign", child, ""


def _text(node: Any) -> str:
    return str(node).strip()


def _condition(node: Any) -> Iterator[_Change]:
    """Never and always: together they show more than the condition turned round."""
    for value in ("1'b0", "1'b1"):
        if _text(node) != value:
            yield "condition", node, value


def _if(node: Any) -> Iterator[_Change]:
    yield from _condition(node.predicate)
    if _RESET.fullmatch(_text(node.predicate)):
        for statement in _assignments(node.statement):
            yield "reset", statement, ";"


def _assignments(node: Any) -> Iterator[Any]:
    from pyslang.syntax import SyntaxNode

    if node.kind.name == "ExpressionStatement":
        yield node
        return
    for child in node:
        if isinstance(child, SyntaxNode):
            yield from _assignments(child)


def _number(node: Any) -> Iterator[_Change]:
    """An unsized number: one more, and one less where it is not 0."""
    digits = _text(node).replace("_", "")
    if digits.isdigit():
        value = int(digits)
        yield from (("constant", node, str(other)) for other in (value - 1, value + 1) if other >= 0)


def _vector(node: Any) -> Iterator[_Change]:
    """A sized number: one more and one less, around its width; x and z have no neighbours."""
    match = re.fullmatch(r"(\d*)'(s?)([bodh])([0-9a-f_]+)", "".join(_text(node).lower().split()))
    if match is None:
        return
    size, signed, base, digits = match.groups()
    radix, spec = {"b": (2, "b"), "o": (8, "o"), "d": (10, "d"), "h": (16, "x")}[base]
    value, modulus = int(digits.replace("_", ""), radix), 1 << int(size or 32)
    for other in sorted({(value - 1) % modulus, (value + 1) % modulus} - {value}):
        yield "constant", node, f"{size}'{signed}{base}{other:{spec}}"


def _filling(node: Any) -> Iterator[_Change]:
    swapped = {"'0": "'1", "'1": "'0"}
    if _text(node) in swapped:
        yield "constant", node, swapped[_text(node)]


def _beside(node: Any) -> Iterator[_Change]:
    """A selected place that is no plain number, which `_number` changes: the one above it."""
    place = node.expr if node.kind.name == "BitSelect" else node.left
    if place.kind.name != "IntegerLiteralExpression":
        yield "index", place, f"{_whole(place)} + 1"


def _whole(node: Any) -> str:
    """An expression's text, as an operand."""
    text = _text(node)
    return text if re.fullmatch(r"\w+|\(.*\)", text) and text.count("(") < 2 else f"({text})"


def _narrower(node: Any) -> Iterator[_Change]:
    selector = getattr(node.specifier, "selector", None)
    if selector is not None and selector.kind.name == "SimpleRangeSelect":
        yield "width", selector.left, f"{_whole(selector.left)} - 1"


def _cast(node: Any) -> Iterator[_Change]:
    """A cast to a width one bit less; one to a type has none."""
    size = node.left
    if size.kind.name == "IntegerLiteralExpression":
        if int(_text(size)) > 1:
            yield "width", size, str(int(_text(size)) - 1)
    elif size.kind.name in ("IdentifierName", "ParenthesizedExpression"):
        yield "width", size, f"({_text(size)} - 1)"


def _signing(node: Any) -> Iterator[_Change]:
    if _text(node) in _SIGNING:
        yield "sign", node, _SIGNING[_text(node)]


_MAKERS: dict[str, Callable[[Any], Iterator[_Change]]] = {
    "ConditionalStatement": _if,
    "ConditionalExpression": lambda node: _condition(node.predicate),
    "IfGenerate": lambda node: _condition(node.condition),
    "IntegerLiteralExpression": _number,
    "IntegerVectorExpression": _vector,
    "UnbasedUnsizedLiteralExpression": _filling,
    "BitSelect": _beside,
    "AscendingRangeSelect": _beside,
    "DescendingRangeSelect": _beside,
    "VariableDimension": _narrower,
    "CastExpression": _cast,
    "SystemName": _signing,
}
