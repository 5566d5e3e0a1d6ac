"""Constant expressions of Verilog, as far as loops and widths of testbenches have them."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
}


def number(text: str, parameters: Mapping[str, int]) -> int | None:
    """A constant expression of whole numbers and parameters; None for anything else."""
    based = {"h": 16, "d": 10, "b": 2, "o": 8}
    text = re.sub(r"//.*|/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"\d*'s?([hdboHDBO])([\da-fA-F_]+)", lambda m: str(int(m[2], based[m[1].lower()])), text)
    text = re.sub(r"(?<!/)/(?!/)", "//", text.strip())

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            return parameters[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise KeyError(type(node).__name__)

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, KeyError, ValueError, ZeroDivisionError):
        return None
