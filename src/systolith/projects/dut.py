"""The design that a testbench tests: which of a project's sources, which module, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from systolith.array import Mapping as ArrayMapping
from systolith.formats import BadInput
from systolith.projects.project import Project


@dataclass(frozen=True)
class Dut:
    """A design under test.

    Attributes:
        sources: files, relative to the project's root, in its order: all but those of the testbench.
        tops: the module that the testbench instantiates, with its parameters, whole numbers; several where it
            instantiates several, or with several choices of parameters.
        text: parameters of these that are no whole numbers.
    """

    sources: tuple[str, ...]
    tops: tuple[tuple[str, Mapping[str, int]], ...]
    text: tuple[str, ...]

    def only(self, project: Project) -> tuple[str, Mapping[str, int]]:
        """The one module and its parameters, as a synthesis takes them.

        Raises:
            BadInput: there are several, or none, or a parameter is no whole number.
        """
        if len(self.tops) != 1:
            found = ", ".join(sorted({name for name, _ in self.tops})) or "none"
            raise BadInput(f"{project.file}: expected a testbench with one instance of one design, found {found}")
        if self.text:
            raise BadInput(f"{project.file}: parameter {self.text[0]} of {self.tops[0][0]}: expected a whole number")
        return self.tops[0]


def dut_of(project: Project, mapping: ArrayMapping) -> Dut:
    """The design that a project's testbench tests on a layer, from the elaborated sources; needs pyslang.

    Raises:
        BadInput: a source cannot be read, or no module is a testbench.
    """
    from pyslang import SVInt, ast

    root, manager = _elaborated(project, mapping)
    benches = [one for one in root.topInstances if any(isinstance(m, ast.InstanceSymbol) for m in one.body)]
    if not benches:
        raise BadInput(f"{project.file}: expected a testbench that instantiates a design, found none in its sources")
    files = {manager.getFileName(one.definition.location) for one in benches}
    tops: dict[str, tuple[str, Mapping[str, int]]] = {}
    text: list[str] = []

    def visit(node: Any) -> None:
        if not isinstance(node, ast.InstanceSymbol) or manager.getFileName(node.definition.location) in files:
            return
        parent = node.parentScope.containingInstance.parentInstance  # of a generate block, too
        if parent is None or manager.getFileName(parent.definition.location) not in files:
            return
        values = {
            p.name: p.value.value
            for p in node.body.parameters
            if isinstance(p, ast.ParameterSymbol) and not p.isLocalParam
        }
        given = {name: int(v) for name, v in values.items() if isinstance(v, SVInt) and not v.hasUnknown}
        text.extend(name for name in values if name not in given)
        tops[repr((node.definition.name, given))] = node.definition.name, given

    root.visit(visit)
    return Dut(tuple(one for one in project.sources if one not in files), tuple(tops.values()), tuple(text))


def _elaborated(project: Project, mapping: ArrayMapping) -> tuple[Any, Any]:
    """The root of the elaborated design, and the manager that knows the files, called as the project calls them."""
    from pyslang import Bag, SourceManager, ast
    from pyslang.parsing import PreprocessorOptions
    from pyslang.syntax import SyntaxTree

    design = project.design(mapping)
    options, before = ast.CompilationOptions(), PreprocessorOptions()
    options.topModules = {design.top} if design.top else set()
    options.paramOverrides = [f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in design.parameters.items()]
    before.predefines = [f"{name}={value}" for name, value in design.defines.items()]
    before.additionalIncludePaths = [project.root / place for place in (*design.include, ".")]
    manager, bag = SourceManager(), Bag([options, before])
    compilation = ast.Compilation(bag)
    for source in project.sources:
        try:
            text = (project.root / source).read_text(errors="replace")
        except OSError as error:
            raise BadInput(f"{project.root / source}: cannot be read ({error.strerror})") from None
        compilation.addSyntaxTree(SyntaxTree.fromText(text, manager, source, source, bag))
    return compilation.getRoot(), manager
