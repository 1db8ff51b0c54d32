"""pyproject.toml against the imports, both ways: what is declared is used, and what is used is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"fewstep", "pocket_making", "benchmarks", "tests"}
MODULE_OF = {  # where it is not the distribution's name
    "huggingface-hub": "huggingface_hub",
    "nvidia-modelopt": "modelopt",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}
WITHOUT_IMPORT = {  # declared, imported by nobody here, and needed
    "accelerate": "diffusers fills a model's weights without initialising them first only where it is installed",
    "onnxruntime": "what rapidocr computes with; it declares none, since there are several",
    "python-multipart": "starlette reads the forms of edit requests with it",
    "mkdocs-material": "`make docs`",
    "mkdocstrings": "`make docs`",
    "mypy": "`make check`",
    "pytest-xdist": "`make test` runs in several processes",
    "ruff": "`make check`",
    "types-pyyaml": "for mypy",
}
OPTIONAL = {  # what belongs to an extra, or to several, and who alone may import it
    "anyio": ("serve studio", r"src/fewstep/(sample/server|run/studio)/"),
    "pyarrow": ("data", r"src/fewstep/(data/formats/parquet|bench/importers)\.py"),
    "rapidocr": ("ocr", r"src/fewstep/bench/metrics/ocr\.py"),
    "tensorboard": ("tensorboard", r"src/fewstep/run/tracking/tensorboard_files\.py"),
    "trackio": ("trackio", r"src/fewstep/run/tracking/trackio_run\.py"),
    "wandb": ("wandb", r"src/fewstep/run/tracking/wandb_run\.py"),
    "starlette": ("serve studio", r"src/fewstep/(sample/server|run/studio)/|src/fewstep/cli/verbs/studio\.py"),
    "uvicorn": ("serve studio", r"src/fewstep/cli/verbs/(serve|studio)\.py|src/fewstep/sample/server/"),
}
FOR_DEVELOPMENT = {"dev", "docs", "peers"}
NOT_FOR_DEVELOPMENT = {
    "trackio",
    "wandb",
}  # large, or with a client of a service; their tests skip where they are absent


def distribution(requirement: str) -> str:
    """ "scikit-image>=0.22" -> "scikit-image"; one name, however it is written."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


CORE = {distribution(each) for each in PROJECT["dependencies"]}
EXTRAS = {
    extra: {distribution(each) for each in requirements} - {"fewstep"}
    for extra, requirements in PROJECT["optional-dependencies"].items()
}
DECLARED = CORE.union(*EXTRAS.values())


def module_of(name: str) -> str:
    return MODULE_OF.get(name, name.replace("-", "_"))


def imported(file: Path) -> Iterator[str]:
    """Top-level names of other people's modules; those named in a call count too: import_module("pyarrow")."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            names = [str(node.args[0].value)] if called in {"import_module", "importorskip"} else []
        yield from {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - OURS


@cache
def users(*folders: str) -> dict[str, set[str]]:
    """module -> the files that import it."""
    found: dict[str, set[str]] = {}
    for file in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for name in imported(file):
            found.setdefault(name, set()).add(file.relative_to(ROOT).as_posix())
    return found


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_what_is_declared_is_used(name: str) -> None:
    used = module_of(name) in users("src", "tests", "benchmarks")
    assert used != (name in WITHOUT_IMPORT), f"{name}: is imported, or WITHOUT_IMPORT says what it is needed for"


def test_no_reason_is_left_for_what_is_not_declared() -> None:
    assert set(WITHOUT_IMPORT) <= DECLARED
    assert {extra for extras, _ in OPTIONAL.values() for extra in extras.split()} | FOR_DEVELOPMENT == set(EXTRAS)


@pytest.mark.parametrize("module", sorted(users("src")))
def test_what_the_package_imports_is_declared(module: str) -> None:
    """By the core, or by an extra; then only the feature that the extra is for imports it."""
    if module in {module_of(name) for name in CORE}:
        return
    assert module in OPTIONAL, f"{module} is imported by {sorted(users('src')[module])} and declared nowhere"
    extras, place = OPTIONAL[module]
    for extra in extras.split():
        assert module in {module_of(name) for name in EXTRAS[extra]}
    strangers = [file for file in users("src")[module] if not re.match(place, file)]
    assert not strangers, f"{module} belongs to the extra {extras}; {strangers} would need it always"


def test_what_tests_and_benchmarks_import_is_declared() -> None:
    known = {module_of(name) for name in DECLARED}
    beside = {path.stem for path in (*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"))}
    skipped = {"comfyui_embedded_docs", "comfyui_workflow_templates_json"}  # compared with where it is installed
    assert not users("tests", "benchmarks").keys() - known - beside - skipped


def test_development_has_every_feature() -> None:
    (own,) = [each for each in PROJECT["optional-dependencies"]["dev"] if distribution(each) == "fewstep"]
    assert set(re.findall(r"\w+", own.partition("[")[2])) == set(EXTRAS) - FOR_DEVELOPMENT - NOT_FOR_DEVELOPMENT
