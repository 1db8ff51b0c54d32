"""Commands that need no model answer without what runs one: torch and diffusers take ten seconds to import. What reads
pictures or solves equations is imported only where it is used. Each group of commands runs in a process of its own, one
command after another, and what is imported by then is looked at after each."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import fewstep
from tests.cli.small_inputs import SmallInputs, small_inputs

SOURCE = Path(fewstep.__file__).parents[1]
MODELS = ("torch", "diffusers", "transformers", "accelerate", "peft")
FIGURES = ("scipy.stats", "scipy.optimize", "scipy.ndimage", "skimage.color", "pandas", "pyarrow")
# The errors of huggingface_hub 1, which the oldest transformers need, cannot be named without its network code.
NETWORK = () if metadata.version("huggingface_hub").startswith("1.") else ("httpx",)
ANY_ARRAY = (*MODELS, *NETWORK, "numpy", "scipy", "skimage", "pandas", "pyarrow", "jinja2")
PROGRAM = """
import json, sys
from fewstep.cli.main import app

forbidden, commands = json.loads(sys.stdin.read())
for words in commands:
    code = 0
    try:
        app(words)
    except SystemExit as end:
        code = end.code
    imported = [name for name in forbidden if name in sys.modules]
    print("ENDED", json.dumps([code, imported]), flush=True)
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> SmallInputs:
    return small_inputs(tmp_path_factory.mktemp("inputs"))


def ends(commands: dict[tuple[str, ...], int], forbidden: tuple[str, ...], inputs: SmallInputs) -> None:
    """Holds that each command ends with its exit code and that nothing forbidden is imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([forbidden, list(commands)]),
        cwd=inputs.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "FEWSTEP_CACHE": str(inputs.cache)},
        capture_output=True,
        text=True,
    )
    found = [json.loads(line.removeprefix("ENDED")) for line in done.stdout.splitlines() if line.startswith("ENDED")]
    assert len(found) == len(commands), done.stderr
    for (words, code), ended in zip(commands.items(), found, strict=True):
        assert ended == [code, []], f"fewstep {' '.join(words)}: {done.stdout}{done.stderr}"


def test_help_imports_no_arrays(inputs: SmallInputs) -> None:
    groups = ("cases", "recipe", "pocket", "judge", "bench", "prompts", "study")
    asked = [("--version",), ("--help",), *((group, "--help") for group in groups), ("distill", "--help")]
    ends(dict.fromkeys(asked, 0), (*ANY_ARRAY, "PIL", "yaml"), inputs)


def test_what_no_model_can_answer_is_refused_before_one_is_imported(inputs: SmallInputs) -> None:
    picture = str(inputs.folder / "pictures" / "none.png")
    torn = inputs.folder / "torn"
    (torn / "vae").mkdir(parents=True)
    (torn / "model_index.json").write_text('{"_class_name": "QwenImage21Pipeline", "vae": ["diffusers", "x"]}')
    (torn / "vae" / "model.safetensors").write_bytes((50).to_bytes(8, "little") + b"{")
    sample = ("sample", "pocket", "-p", "a boat")
    refused = [
        ("sample", "missing", "-p", "a boat"),
        ("sample", str(inputs.cases), "-p", "a boat"),
        ("sample", str(torn), "-p", "a boat"),
        ("distill", "pocket", "--set", f"model={torn}", "--set", "run.best_by=null"),
        (*sample, "--size", "3x4x5"),
        (*sample, "-i", picture),
        (*sample, "-i", str(inputs.cases)),
        (*sample, "--out", "a.jpg"),
        (*sample, "--seed", "1" + "0" * 30),
        ("sample", "pocket", "-p", "a" * 20_000),
        ("generate", "missing", "--suite", "mini-t2i", "--to", "gallery"),
        ("generate", "pocket", "--suite", "nosuch", "--to", "gallery"),
        ("serve", "missing"),
        ("serve", str(inputs.folder)),
        *((command, "pocket", "--set", "model=missing") for command in ("distill", "encode", "plan")),
        ("distill", "pocket", "--set", "run.best_by=nosuch"),
    ]
    ends(dict.fromkeys(refused, 2), MODELS, inputs)


def test_recipes_are_shown_and_mistyped_ones_refused_without_arrays(inputs: SmallInputs) -> None:
    shown = [("recipe", "list"), ("recipe", "show", "pocket"), ("recipe", "schema"), ("study", "list")]
    refused = [
        (*command, *words)
        for command in (("distill",), ("plan",), ("encode",), ("cases", "plan"), ("recipe", "show"))
        for words in (
            ("pockt",),
            (str(inputs.mistyped),),
            ("pocket", "--set", "run.iteration=3"),
            ("pocket", "--set", "run.iterations=many"),
            ("pocket", "--set", "run"),
        )
    ]
    ends(dict.fromkeys(shown, 0) | dict.fromkeys(refused, 2), ANY_ARRAY, inputs)


def test_cases_are_checked_without_a_model(inputs: SmallInputs) -> None:
    cases, recipe = str(inputs.cases), str(inputs.recipe)
    commands = {
        ("cases", "check", cases): 0,
        ("cases", "check", "not-there.jsonl"): 2,
        ("cases", "check", cases, "--against", str(inputs.galleries[0] / "suite")): 0,
        ("cases", "convert", cases, "--to", "converted.jsonl"): 0,
        ("cases", "plan", recipe, "--out", "runs/none"): 0,
        ("pocket", "phrases"): 0,
        ("pocket", "phrases", "--world", "pocket"): 0,
    }
    ends(commands, (*MODELS, "scipy", "skimage"), inputs)


def test_judges_are_priced_without_figures(inputs: SmallInputs) -> None:
    one, other = map(str, inputs.galleries)
    judge = ("--judge", str(inputs.judge))
    commands = {
        ("judge", "protocols"): 0,
        ("judge", "protocols", "t2i-v1"): 0,
        ("judge", "run", one, *judge, "--dry-run"): 0,
        ("judge", "pair", one, other, *judge, "--dry-run"): 0,
        ("judge", "retry", one, "--judge", "not-there.toml"): 2,
        ("judge", "check", "--judge", "not-there.toml"): 2,
        ("bench", "suites"): 0,
        ("bench", "check", one + "/suite"): 0,
    }
    ends(commands, (*MODELS, *FIGURES, "scipy.special"), inputs)


def test_galleries_are_compared_without_what_reads_pictures(inputs: SmallInputs) -> None:
    one, other = map(str, inputs.galleries)
    commands = {
        ("bench", "rank", one, other): 0,
        ("bench", "compare", one, other): 0,
        ("bench", "compare", one, other, "--metric", "flat_noise"): 0,
        ("bench", "compare", one, "not-there"): 3,
        ("bench", "report", one, other, "--to", "report"): 0,
        ("bench", "measure", one, "--metrics", "sanity"): 0,
    }
    ends(commands, (*MODELS, *FIGURES, "scipy.special"), inputs)
