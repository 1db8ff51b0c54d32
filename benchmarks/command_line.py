"""Processor seconds of commands that need no model, each as a whole process: what a user waits for an answer.

PYTHONPATH=.:src python benchmarks/command_line.py [--against SRC] [--repeats 5] [--only WORDS]

Seconds are user and system time of the process and its children, the least and the median of the repeats. Two source
trees are measured by turns, command by command, so that what else the machine does falls on both alike.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cli.small_inputs import SmallInputs, small_inputs

HERE = Path(__file__).parents[1] / "src"
PROGRAM = "import sys; from {module} import {function}; sys.argv[0] = 'fewstep'; {function}()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another tree's src, its pyproject.toml beside it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="commands that hold these words")
    options = parser.parse_args()
    trees = [HERE, *([options.against.resolve()] if options.against else [])]
    print("CPU seconds, least of the repeats (median): " + ", then ".join(str(tree) for tree in trees))
    with TemporaryDirectory() as scratch:
        inputs = small_inputs(Path(scratch))
        for shown, words in _commands(inputs).items():
            if options.only in shown:
                taken = _measured(words, trees, options.repeats, inputs)
                cells = (f"{min(of_tree):8.2f} ({statistics.median(of_tree):.2f})" for of_tree in taken)
                print(f"{shown:26}", *cells, flush=True)


def _commands(inputs: SmallInputs) -> dict[str, list[str]]:
    """By what the table calls them. Reports are made anew each time."""
    one, other = map(str, inputs.galleries)
    cases, judge = str(inputs.cases), ["--judge", str(inputs.judge)]
    return {
        "--help": ["--help"],
        "--version": ["--version"],
        "bench --help": ["bench", "--help"],
        "recipe list": ["recipe", "list"],
        "recipe show pocket": ["recipe", "show", "pocket"],
        "recipe schema": ["recipe", "schema"],
        "distill, unknown recipe": ["distill", "pockt"],
        "distill, mistyped key": ["distill", "pocket", "--set", "run.iteration=3"],
        "distill, mistyped file": ["distill", str(inputs.mistyped)],
        "plan, mistyped key": ["plan", "pocket", "--set", "run.iteration=3"],
        "encode, bad --set": ["encode", "pocket", "--set", "run"],
        "cases check": ["cases", "check", cases],
        "cases check, no file": ["cases", "check", "not-there.jsonl"],
        "cases plan": ["cases", "plan", str(inputs.recipe), "--out", "runs/none"],
        "judge protocols": ["judge", "protocols"],
        "judge run --dry-run": ["judge", "run", one, *judge, "--dry-run"],
        "judge pair --dry-run": ["judge", "pair", one, other, *judge, "--dry-run"],
        "judge run, no judge": ["judge", "run", one, "--judge", "not-there.toml"],
        "bench suites": ["bench", "suites"],
        "bench rank": ["bench", "rank", one, other],
        "bench compare": ["bench", "compare", one, other],
        "bench report": ["bench", "report", one, other, "--to", "report"],
        "study list": ["study", "list"],
        "doctor": ["doctor"],
    }


def _measured(words: list[str], trees: list[Path], repeats: int, inputs: SmallInputs) -> list[list[float]]:
    """Seconds of every repeat, by tree. Once before, unmeasured: byte code is written then."""
    for tree in trees:
        _seconds(words, tree, inputs)
    taken = [[_seconds(words, tree, inputs) for tree in trees] for _ in range(repeats)]
    return [list(of_tree) for of_tree in zip(*taken, strict=True)]


def _seconds(words: list[str], tree: Path, inputs: SmallInputs) -> float:
    project = tomllib.loads((tree.parent / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["fewstep"].partition(":")
    environment = {**os.environ, "PYTHONPATH": str(tree), "FEWSTEP_CACHE": str(inputs.cache)}
    before = _processor_seconds()
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module, function=function), *words],
        cwd=inputs.folder,
        env=environment,
        capture_output=True,
    )
    return _processor_seconds() - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
