"""Every benchmark starts, and the script that draws the README's picture: it imports what it needs, and says how it is
called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = [*sorted(f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("[!_]*.py")), "scripts/hero.py"]
LIBRARIES = {"benchmarks/host_reads.py"}  # without a command of their own: tests import them

# As `PYTHONPATH=. python benchmarks/NAME.py --help`, all in one process, because each alone would import torch again.
START_ALL = """
import contextlib, io, json, runpy, sys
from pathlib import Path

root, names, found = Path(sys.argv[1]), sys.argv[2:], {}
for name in names:
    sys.path[0] = str((root / name).parent)
    sys.argv, said = [name, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(root / name), run_name="__main__")
        ended = "ran to its end"
    except SystemExit as end:
        ended = f"exit {end.code}"
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    found[name] = ended, said.getvalue()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[str, str]]:
    """By benchmark: how it ended when asked for help, and what it printed."""
    places = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", START_ALL, str(ROOT), *BENCHMARKS],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": places},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_imports_and_answers_help(name: str, answers: dict[str, tuple[str, str]]) -> None:
    ended, said = answers[name]
    if name in LIBRARIES:
        assert ended == "ran to its end"
        return
    assert ended == "exit 0"
    assert "usage:" in said
