"""The never-table of docs/architecture.md, held by reading the imports. Rules are transitive: what a module reaches
through others counts."""

import ast
import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent / "src" / "fewstep"
MODULES = {
    ".".join(("fewstep", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """What a module names in its import statements, wherever they stand (type-checking blocks aside)."""
    found: set[str] = set()
    checking = [n for n in tree(module).body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    assert not checking or module == "fewstep", f"{module}: only the package's own names are for type checkers alone"
    unread = {part for block in checking for part in ast.walk(block)}
    for node in ast.walk(tree(module)):
        if node in unread:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            base = node.module or ""
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES}
    return frozenset(found)


@cache
def reach(module: str) -> frozenset[str]:
    """Everything a module imports, directly or through our own modules."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports(waiting.pop()):
            if name not in seen:
                seen.add(name)
                if name in MODULES:
                    waiting.append(name)
    return frozenset(seen)


def within(name: str, rooms: Iterable[str]) -> bool:
    """Whether a dotted name is one of these or lies in one of them."""
    return any(name == r or name.startswith(f"{r}.") for r in rooms)


def modules_of(*rooms: str) -> list[str]:
    return [name for name in MODULES if within(name, rooms)]


NO_MODELS = {"torch", "diffusers", "transformers", "accelerate", "peft"}
# What answers without a model. Numbers of a recipe stand apart from what makes tensors of them.
LIGHT = (
    "fewstep.data",
    "fewstep.bench",
    "fewstep.endpoint",
    "fewstep.pages",
    "fewstep.runtime.section",
    "fewstep.runtime.key_help",
    "fewstep.runtime.strict_yaml",
    "fewstep.runtime.torchrun",
    "fewstep.flow.guidance",
    "fewstep.flow.sigmas",
    "fewstep.objective.plan",
    "fewstep.roles.plan",
    "fewstep.roles.teacher_plan",
    "fewstep.train.plan",
    "fewstep.run.recipe",
    "fewstep.run.folder",
    "fewstep.run.budget.shapes",
    "fewstep.run.budget.question",
    "fewstep.run.budget.kept_answers",
    "fewstep.study.plan",
    "fewstep.study.grid",
    "fewstep.study.report",
    "fewstep.cli.verbs.bench_compare",
    "fewstep.cli.verbs.cases",
    "fewstep.cli.verbs.cases_plan",
    "fewstep.cli.verbs.judge_passes",
    "fewstep.cli.verbs.judge_protocols",
    "fewstep.cli.verbs.plan",
    "fewstep.cli.verbs.recipes",
    "fewstep.cli.verbs.suites",
)
NEVER = [
    *((where, NO_MODELS) for where in LIGHT),
    ("fewstep.run.recipe", {"numpy", "scipy", "httpx", "jinja2"}),
    ("fewstep.cli.verbs.judge_protocols", {"numpy", "scipy", "httpx", "jinja2"}),
    ("fewstep.data", {"torch", "fewstep.bench", "fewstep.pocket"}),
    (
        "fewstep.backbones",
        {"fewstep.roles", "fewstep.objective", "fewstep.data", "fewstep.train", "fewstep.run", "fewstep.sample"},
    ),
    (
        "fewstep.objective",
        {"fewstep.roles", "fewstep.backbones", "fewstep.data", "fewstep.train", "fewstep.run"},
    ),
    ("fewstep.sample", {"fewstep.train", "fewstep.objective", "fewstep.roles", "fewstep.run"}),
    (
        "fewstep.bench",
        {"torch", "fewstep.backbones", "fewstep.train", "fewstep.sample", "fewstep.run", "fewstep.pocket"},
    ),
    ("fewstep.train", {"fewstep.bench", "fewstep.study", "fewstep.pocket", "fewstep.run"}),
    ("fewstep.roles", {"fewstep.data", "fewstep.objective", "fewstep.train", "fewstep.run"}),
    ("fewstep.lora", {"fewstep.roles", "fewstep.backbones", "fewstep.train", "fewstep.export"}),
    ("fewstep.export", {"fewstep.data.sources", "fewstep.objective", "fewstep.train", "fewstep.run", "fewstep.pocket"}),
    ("fewstep.endpoint", {"torch", "fewstep.bench", "fewstep.data"}),
    ("fewstep.pages", {"torch", "fewstep.bench", "fewstep.run", "fewstep.study"}),
    ("fewstep.pocket", {"fewstep.objective", "fewstep.train", "fewstep.run", "fewstep.study"}),
    ("fewstep.study.report", {"torch", "fewstep.backbones", "fewstep.train", "fewstep.run.recipe"}),
]


@pytest.mark.parametrize(("where", "forbidden"), NEVER, ids=[where for where, _ in NEVER])
def test_never(where: str, forbidden: set[str]) -> None:
    broken = {m: sorted(f for f in reach(m) if within(f, forbidden)) for m in modules_of(where)}
    assert not {m: found for m, found in broken.items() if found}


def test_flow_stands_alone() -> None:
    for module in modules_of("fewstep.flow"):
        ours = {name for name in reach(module) if within(name, {"fewstep"})}
        foreign = {name for name in ours if not within(name, {"fewstep.flow", "fewstep.runtime.errors"})}
        assert not foreign, f"{module} reaches {sorted(foreign)}"


def test_only_backbones_know_diffusers() -> None:
    may = set(modules_of("fewstep.backbones", "fewstep.pocket.build"))
    for module in set(MODULES) - may:
        foreign = {name for name in imports(module) if name.split(".")[0] in {"diffusers", "transformers"}}
        assert not foreign, f"{module} imports {sorted(foreign)}"


def test_only_the_command_line_imports_inside_functions() -> None:
    may = {"fewstep.cli.main", "fewstep.runtime.torchvision_pair"} | set(
        modules_of("fewstep.cli.commands", "fewstep.backbones", "fewstep.pocket")
    )
    for module in set(MODULES) - may:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef):
                inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not inner, f"{module}.{node.name} imports inside the function"


def test_only_the_command_line_reaches_for_what_prints() -> None:
    may = {"fewstep.cli.main", *modules_of("fewstep.cli.commands", "fewstep.cli.verbs")}
    for module in set(MODULES) - may:
        printing = [name for name in imports(module) if name.startswith("fewstep.cli.verbs")]
        assert not printing, f"{module} imports {printing}"


def test_packages_re_export_nothing() -> None:
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module != "fewstep":
            assert not path.read_text().strip(), f"{module} is a folder, not a façade: leave its __init__ empty"


def test_no_drawer_for_everything() -> None:
    banned = {"utils", "util", "helpers", "common", "misc", "registry", "manager"}
    assert not [m for m in MODULES if m.rsplit(".", 1)[-1] in banned]


def test_files_are_one_idea() -> None:
    long = {m: n for m, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 400}
    assert not long, f"split these: {long}"


def test_tests_lie_in_the_rooms_that_they_hold() -> None:
    """tests/ mirrors the package. Beside its rooms there are the making of the pocket's weights, what is held against
    other people's programs and against earlier versions, the interpreter that tests verify exports with, and what is
    held of the repository as a whole (files at the top)."""
    beside = {"pocket_making", "peers", "compatibility", "warm_python"}
    for folder in sorted(path for path in TESTS.rglob("*") if path.is_dir() and path.name != "__pycache__"):
        inside = folder.relative_to(TESTS)
        assert inside.parts[0] in beside or (ROOT / inside).is_dir(), f"no room for tests/{inside}"


def test_no_circles() -> None:
    for module in MODULES:
        assert module not in reach(module), f"{module} imports itself through others"


# ---- rooms: the folders and files at the package's top level


def room_of(module: str) -> str:
    return module.split(".")[1]


ROOMS = {room_of(module) for module in MODULES if module not in {"fewstep", "fewstep.__main__"}}


def test_rooms_can_be_counted() -> None:
    assert len(ROOMS) <= 18, sorted(ROOMS)


def test_no_circle_between_rooms() -> None:
    """An arrow from room to room is any import, those inside functions too."""
    arrows: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module in MODULES:
        for name in imports(module):
            if name in MODULES and name != "fewstep" and module != "fewstep" and room_of(name) != room_of(module):
                arrows.setdefault(room_of(module), set()).add(room_of(name))
    while free := {room for room, to in arrows.items() if not to & arrows.keys()}:
        arrows = {room: to for room, to in arrows.items() if room not in free}
    assert not arrows, "these rooms reach each other both ways, or something that does"


@cache
def chain(module: str) -> tuple[str, ...]:
    """The longest chain of our own modules that begins here, each importing the next."""
    longest = max((chain(name) for name in sorted(imports(module)) if name in MODULES), key=len, default=())
    return (module, *longest)


def test_chains_of_imports_are_short() -> None:
    longest = max(map(chain, MODULES), key=len)
    assert len(longest) <= 15, " > ".join(longest)


def test_the_bench_stands_on_little() -> None:
    """The examination installs and starts without torch: what it needs of the rest is named here."""
    allowed = {"fewstep.bench", "fewstep.runtime", "fewstep.pages", "fewstep.endpoint", "fewstep.data"}
    for module in modules_of("fewstep.bench"):
        foreign = {name for name in reach(module) if name in MODULES and not within(name, allowed)} - {"fewstep"}
        assert not foreign, f"{module} reaches {sorted(foreign)}"
        heavy = {name for name in reach(module) if within(name, {"torch", "torchvision", "diffusers", "transformers"})}
        assert not heavy, f"{module} reaches {sorted(heavy)}"


def test_making_the_pocket_weights_stands_apart() -> None:
    """It is not in the wheel. Only the commands that need a checkout import it, and they say so where it is missing."""
    for module in set(MODULES) - {"fewstep.cli.commands.pocket"}:
        assert not [name for name in imports(module) if within(name, {"pocket_making"})], module


# ---- names


def test_public_names_are_told_apart() -> None:
    """A name of a class or a function says where it is, but for the contracts that docs/glossary.md lists. What makes a
    world has one name in both pocket worlds."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found.setdefault(node.name, set()).add(module)
    several = {name: modules for name, modules in found.items() if len(modules) > 1}
    of_worlds = {name for name, modules in several.items() if len(modules) == 2 and one_in_each_world(modules)}
    assert {name: modules for name, modules in several.items() if name not in of_worlds} == contracts()


def one_in_each_world(modules: set[str]) -> bool:
    harder = {module for module in modules if within(module, {"fewstep.pocket.harder"})}
    return len(harder) == 1 and all(within(module, {"fewstep.pocket"}) for module in modules)


def contracts() -> dict[str, set[str]]:
    """name -> modules, from the glossary's table."""
    page = (TESTS.parent / "docs" / "glossary.md").read_text()
    section = page.split("## One contract, several modules", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): set(re.findall(r"`(fewstep[\w.]+)`", row[1])) for row in rows}


def test_only_the_command_line_prints() -> None:
    """Rooms speak through a reporter."""
    for module in set(MODULES) - set(modules_of("fewstep.cli", "pocket_making")):
        assert not within_any(imports(module), "rich"), f"{module} imports rich"
        calls = [n for n in ast.walk(tree(module)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        assert "print" not in {call.func.id for call in calls}, f"{module} prints"  # type: ignore[attr-defined]


def within_any(names: Iterable[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in names)


def test_the_story_is_one_page_and_stands_alone() -> None:
    """It is read without knowing how roles are built or how batches are loaded."""
    story = "fewstep.train.dmd_step"
    assert len(MODULES[story].read_text().splitlines()) <= 120
    foreign = {"fewstep.roles.build", "fewstep.encode.loader", "fewstep.encode.store", "fewstep.backbones.families"}
    assert not reach(story) & foreign


def test_the_drawing_of_the_rooms_is_up_to_date() -> None:
    script = Path(__file__).parent.parent / "scripts" / "draw_rooms.py"
    spec = importlib.util.spec_from_file_location("draw_rooms", script)
    assert spec is not None
    assert spec.loader is not None
    drawer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawer)
    assert drawer.PICTURE.read_text() == drawer.drawing(), "run python scripts/draw_rooms.py"


def test_the_glossary_leads_to_the_code() -> None:
    """Every file that it names is there, and every name of the code stands in the code."""
    page = (TESTS.parent / "docs" / "glossary.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:2] == "| "]
    terms = [row for row in rows if len(row) == 5 and row[0] != "term"]
    assert len(terms) >= 50
    assert len({row[0] for row in terms}) == len(terms)
    code = "\n".join(path.read_text() for path in MODULES.values())
    for term, symbols, _, _, place in terms:
        assert (ROOT / place.strip("`")).is_file(), f"{term}: {place}"
        for symbol in re.findall(r"`([A-Za-z_]\w*)`", symbols):
            assert re.search(rf"\b{symbol}\b", code), f"{term}: {symbol}"
