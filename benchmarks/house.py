"""How the package is built, measured on its source text alone: lengths, rooms, names, explanations, proportions.

python benchmarks/house.py [SRC [SRC]] [--json]

SRC is a folder that holds the package `fewstep`, this checkout's own by default; with two, they stand side by side. A
room is a folder or a file at the package's top level. pyproject.toml, README, CHANGELOG and docs are read beside SRC.
"""

import argparse
import ast
import json
import re
import statistics
import tokenize
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGE, MANY_ARGUMENTS = "fewstep", 7
METHOD, EXAMINATION = ("flow", "objective", "roles", "train"), ("bench", "endpoint")
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
# A place in a source: an equation or a section, with its number. Or the source itself, by its number at arXiv.
REFERENCE = re.compile(r"\b(?:eqs?\.|equations?|sec\.|section) \(?[\dA-Z]|\barxiv\b|\b\d{4}\.\d{5}\b", re.IGNORECASE)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
DECIMAL = re.compile(r"(?<![\w.])0?\.\d+(?!\.?\w)")  # below one
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Graph = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Module:
    """One file of the package; `name` is dotted and begins with the package's."""

    name: str
    path: Path

    @property
    def room(self) -> str:
        """Of the package's own `__init__` and `__main__`: none."""
        return (*self.name.split("."), "")[1].replace("__main__", "")

    @cached_property
    def lines(self) -> int:
        return len(self.path.read_text().splitlines())

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        with self.path.open("rb") as file:
            return list(tokenize.tokenize(file.readline))[1:]  # the first tells the encoding

    @property
    def comments(self) -> list[str]:
        return [token.string for token in self.tokens if token.type == tokenize.COMMENT]

    def docstrings(self) -> list[ast.stmt]:
        owners = (node for node in self.nodes if isinstance(node, ast.Module | Definition))
        return [node.body[0] for node in owners if ast.get_docstring(node, clean=False) is not None]

    def function_lengths(self) -> list[int]:
        """Docstrings included, decorators not."""
        functions = (node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]

    def code_lines(self) -> int:
        """Neither blank nor comment nor docstring."""
        code = {n for t in self.tokens if t.type not in NO_CODE for n in range(t.start[0], t.end[0] + 1)}
        return len(code - {n for text in self.docstrings() for n in range(text.lineno, (text.end_lineno or 0) + 1)})


class House:
    """A source tree and what can be counted of it."""

    def __init__(self, src: Path):
        self.beside = src.parent
        parts = {path: path.relative_to(src).with_suffix("").parts for path in sorted((src / PACKAGE).rglob("*.py"))}
        modules = [Module(".".join(words).removesuffix(".__init__"), path) for path, words in parts.items()]
        self.modules = {module.name: module for module in modules}
        self.written = [module for module in self.modules.values() if module.lines]

    @cached_property
    def imports(self) -> Graph:
        """Between modules of the package, from wherever in a module they stand; not those that only mypy reads."""
        return {name: frozenset(self._imported(module)) - {name} for name, module in self.modules.items()}

    def _imported(self, module: Module) -> Iterator[str]:
        unrun = {below for node in module.nodes if _is_for_typing(node) for below in ast.walk(node)}
        for node in module.nodes:
            if node in unrun:
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.modules)
            elif isinstance(node, ast.ImportFrom) and node.module in self.modules:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & self.modules.keys()
                yield from inner or {node.module}

    @cached_property
    def rooms(self) -> Graph:
        """Which rooms a room's modules import."""
        found: dict[str, set[str]] = {module.room: set() for module in self.modules.values() if module.room}
        for name, others in self.imports.items():
            room = self.modules[name].room
            found.get(room, set()).update(self.modules[other].room for other in others)
        return {room: frozenset(others & found.keys() - {room}) for room, others in found.items()}

    def by_room(self, count: Callable[[Module], int]) -> Counter[str]:
        found: Counter[str] = Counter()
        for module in self.modules.values():
            found[module.room] += count(module)
        return found

    def shares(self) -> dict[str, float]:
        """Per cent of the package's lines, by room."""
        lines = self.by_room(lambda module: module.lines)
        return {room: 100 * n / lines.total() for room, n in lines.most_common() if room}

    def repeated(self) -> dict[str, dict[str, list[str]]]:
        """By kind, public names at the top of two or more modules. An alias that begins with a capital counts as a
        class, of what is written in capitals alone there is a count apart; so are the contracts of docs/glossary.md."""
        places: dict[tuple[str, str], list[str]] = defaultdict(list)
        for module in self.written:
            for kind, name in dict.fromkeys(_public(module.tree)):
                places[kind, name].append(module.name)
        found: dict[str, dict[str, list[str]]] = {"class": {}, "constant": {}, "function": {}, "contract": {}}
        for (kind, name), where in sorted(places.items()):
            if len(where) > 1:
                found["contract" if set(where) == self.contracts.get(name) else kind][name] = where
        return found

    @cached_property
    def contracts(self) -> dict[str, set[str]]:
        page = self.beside / "docs" / "glossary.md"
        lines = page.read_text().splitlines() if page.exists() else []
        rows = [re.findall(r"`([\w.]+)`", line) for line in lines if line.startswith("| `")]
        return {name: {where for where in others if where in self.modules} for name, *others in rows}

    def unused_dependencies(self) -> list[str]:
        """Declared, but imported by nothing in src, tests, benchmarks or scripts. What only develops is left out."""
        project = tomllib.loads((self.beside / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {})
        declared = [*project["dependencies"], *(one for extra in extras if extra != "dev" for one in extras[extra])]
        names = {re.split(r"[^\w.-]", one, maxsplit=1)[0].lower() for one in declared} - {project["name"]}
        modules = defaultdict(set)
        for module, distributions in packages_distributions().items():
            for distribution in distributions:
                modules[distribution.lower()].add(module)
        used = self._foreign_imports()
        return sorted(name for name in names if not (modules[name] | {name.replace("-", "_")}) & used)

    def _foreign_imports(self) -> set[str]:
        found: set[str] = set()
        for folder in ("src", "tests", "benchmarks", "scripts"):
            for path in (self.beside / folder).rglob("*.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    found |= {name.split(".")[0] for name in _imported_by(node)}
        return found

    def decimals(self) -> tuple[int, int]:
        """(without a leading zero, all below one) of the prose; code spans that hold a name or a version aside."""
        pages = [self.beside / "README.md", self.beside / "CHANGELOG.md", *(self.beside / "docs").rglob("*.md")]
        text = "\n".join(CODE.sub(_numbers_only, page.read_text()) for page in pages if page.exists())
        found = DECIMAL.findall(text)
        return sum(number.startswith(".") for number in found), len(found)

    def measured(self) -> dict[str, Any]:
        functions = [length for module in self.written for length in module.function_lengths()]
        files = [module.lines for module in self.written]
        repeated, shares = self.repeated(), self.shares()
        bare, decimals = self.decimals()
        comments = sum(len(module.comments) for module in self.written)
        return {
            "function length, median / p90 / longest": _spread(functions, 0.5, 0.9, 1),
            "file length, median / longest": _spread(files, 0.5, 1),
            "entries at the top level": len(self.rooms),
            "rooms in a knot": " + ".join(str(len(knot)) for knot in knots(self.rooms)) or "0",
            "longest chain of imports": len(longest_chain(self.imports)),
            **{f"{kind} names used twice or more": len(names) for kind, names in repeated.items()},
            "comment share, %": round(100 * comments / sum(module.code_lines() for module in self.written), 1),
            "references to a source": sum(_references(module) for module in self.written),
            "the method's share of lines, %": round(sum(shares.get(room, 0) for room in METHOD), 1),
            "the examination's share, %": round(sum(shares.get(room, 0) for room in EXAMINATION), 1),
            "share of lines by room, %": {room: round(share, 1) for room, share in shares.items()},
            f"calls with more than {MANY_ARGUMENTS} arguments": dict(self.by_room(_crowded).most_common()),
            "dependencies that nothing imports": self.unused_dependencies(),
            "decimals without a leading zero": f"{bare} of {decimals}",
            "names used twice or more": {kind: sorted(names) for kind, names in repeated.items()},
        }


def knots(graph: Graph) -> list[set[str]]:
    """Groups that reach each other both ways (strongly connected components of two or more), the largest first."""
    reached = {node: _reach(graph, node) for node in graph}
    groups = {frozenset(other for other in reached[node] if node in reached[other]) for node in graph}
    return sorted((set(group) for group in groups if len(group) > 1), key=len, reverse=True)


def _reach(graph: Graph, start: str) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def longest_chain(graph: Graph) -> list[str]:
    """Of modules that each import the next. An import that would close a circle ends its chain."""
    known: dict[str, list[str]] = {}

    def chain(node: str, above: frozenset[str]) -> list[str]:
        if node not in known:
            onward = (chain(other, above | {node}) for other in sorted(graph[node] - above))
            known[node] = [node, *max(onward, key=len, default=[])]
        return known[node]

    return max((chain(node, frozenset()) for node in graph), key=len)


def _is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imported_by(node: ast.AST) -> list[str]:
    """Names that an import statement names, or a call such as import_module("x")."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module else []
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return []
    dynamic = ast.unparse(node.func).endswith(("import_module", "importorskip"))
    return [str(node.args[0].value)] if dynamic else []


def _public(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(kind, name) of what stands at the top of a module."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield "class" if isinstance(node, ast.ClassDef) else "function", node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            yield from (("constant" if name.isupper() else "class", name) for name in names if name[0].isupper())


def _references(module: Module) -> int:
    """Comments and docstrings that name a source, or a place in one."""
    texts = [*module.comments, *(ast.unparse(text) for text in module.docstrings())]
    return sum(REFERENCE.search(text) is not None for text in texts)


def _crowded(module: Module) -> int:
    calls = (node for node in module.nodes if isinstance(node, ast.Call))
    return sum(len(call.args) + len(call.keywords) > MANY_ARGUMENTS for call in calls)


def _numbers_only(span: re.Match[str]) -> str:
    """A code span stays if it holds no letter and no version."""
    return "" if re.search(r"[a-zA-Z]|\d\.\d+\.\d", span[0]) else span[0]


def _spread(values: Iterable[int], *quantiles: float) -> str:
    ordered = sorted(values)
    picked = (statistics.median(ordered) if q == 0.5 else ordered[int(q * (len(ordered) - 1))] for q in quantiles)
    return " / ".join(f"{value:g}" for value in picked)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items() if number) or "0"
    return ", ".join(value) or "0" if isinstance(value, list) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="*", type=Path, default=[Path(__file__).parents[1] / "src"])
    parser.add_argument("--json", action="store_true", help="the same with the repeated names, for programs")
    options = parser.parse_args()
    found = {str(src): House(src.resolve()).measured() for src in options.src}
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table("point", *found)
    for point in next(iter(found.values())):
        if point != "names used twice or more":
            table.add_row(point, *(_cell(measures[point]) for measures in found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
