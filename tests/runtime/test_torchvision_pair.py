"""torchvision built for another torch is made importable; a missing one is named; any other failure is left alone."""

import re
import subprocess
import sys
from pathlib import Path

import fewstep
from fewstep.runtime import torchvision_pair

PACKAGE = Path(fewstep.__file__).parent
IMPORTS_TORCHVISION = re.compile(r"(from|import) (diffusers|peft|transformers)\b")

BROKEN = """
import torch
try:
    torch._C._get_schema("torchvision::nms", "")
except RuntimeError:
    raise RuntimeError("operator torchvision::nms does not exist") from None
"""  # what torchvision does where its compiled operators did not load


# Set-up may have mended the environment that the tests run in (scripts/mend_torchvision.py).
AS_BEFORE = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != 'MendingFinder']\n"


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    command = f"{AS_BEFORE}sys.path[:0] = {[str(p) for p in path]!r}\n{code}"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120)


def fake(folder: Path, source: str) -> Path:
    """A torchvision that, like the real one, stops half-imported: a submodule is there, its package is not."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("import torchvision.first\nassert torchvision.first.imports\n" + source)
    (package / "first.py").write_text("imports = 1\n")
    return folder


def test_here_it_imports_and_so_do_the_stock_classes() -> None:
    torchvision_pair.ensure()
    torchvision_pair.ensure()
    assert "torchvision" in sys.modules
    from fewstep.backbones import stock

    assert stock.Qwen3VLProcessor


def test_a_foreign_build_is_mended(tmp_path: Path) -> None:
    code = """
from fewstep.runtime import torchvision_pair
try:
    import torchvision
except RuntimeError as error:
    print("broken:", error)
torchvision_pair.ensure()
torchvision_pair.ensure()
import torchvision
print("mended:", torchvision.__file__)
"""
    done = run(code, fake(tmp_path, BROKEN))
    assert done.returncode == 0, done.stderr
    assert "broken: operator torchvision::nms does not exist" in done.stdout
    assert f"mended: {tmp_path}" in done.stdout


def test_other_failures_are_not_swallowed_nor_tried_again(tmp_path: Path) -> None:
    source = "import sys; sys.tries = getattr(sys, 'tries', 0) + 1; raise RuntimeError(f'CUDA gone, try {sys.tries}')"
    done = run("from fewstep.runtime import torchvision_pair; torchvision_pair.ensure()", fake(tmp_path, source))
    assert done.returncode != 0
    assert "RuntimeError: CUDA gone, try 1" in done.stderr
    assert "try 2" not in done.stderr


def test_a_missing_torchvision_is_named(tmp_path: Path) -> None:
    source = "raise ModuleNotFoundError(\"No module named 'torchvision'\")"
    done = run("from fewstep.runtime import torchvision_pair; torchvision_pair.ensure()", fake(tmp_path, source))
    assert "EnvironmentRefused: torchvision is not installed" in done.stderr
    assert "pip install" in done.stderr


def test_the_remedy_comes_before_what_needs_it() -> None:
    """Whatever a process imports first: `fewstep export` once came to peft before anything had applied it."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text().splitlines()
        first = next((n for n, line in enumerate(lines) if IMPORTS_TORCHVISION.match(line)), None)
        if first is not None:
            found[path.name] = any(line.startswith("torchvision_pair.ensure()") for line in lines[:first])
    assert {"stock.py", "adapters.py"} <= set(found)
    assert all(found.values()), found
