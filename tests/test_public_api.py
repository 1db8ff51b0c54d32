"""The public names, and the pages that show them, run as they stand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fewstep
from fewstep.run.folder import RunDir
from fewstep.runtime.errors import PluginError, RecipeError
from tests.train.runs import assert_same_run, lines

DOCS = Path(__file__).parent.parent / "docs"
JUDGED = Path(__file__).parent / "compatibility" / "fixtures" / "galleries"
SMALL = {
    "run": {"iterations": 2, "batch": 2, "precision": "fp32", "save_every_iterations": 1},
    "run.examine_every_iterations": 0,
    "run.sample_every_iterations": 0,
    "student.adapter": {"rank": 2, "alpha": 2},
    "critic.adapter": {"rank": 2, "alpha": 2},
}
T2I = {
    "tasks": {"t2i": 1, "edit": 0},
    "data": {"t2i": [{"source": "pocket:t2i:8"}]},
    "teachers.named": {},
    "student.init_from": None,
}


def blocks(page: str, kind: str = "python") -> list[str]:
    """The page's code. What takes minutes is fenced as `py`, and runs here on less."""
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def on_less(code: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in code, old
        code = code.replace(old, new)
    return code


def small_recipe(**further: Any) -> fewstep.Recipe:
    return fewstep.load_recipe("pocket", SMALL | T2I | further)


# ---- names


def test_the_package_alone_loads_nothing_and_says_its_names() -> None:
    program = (
        "import sys, fewstep\n"
        "assert set(fewstep.__all__) <= set(dir(fewstep))\n"
        "heavy = {'torch', 'pydantic', 'numpy', 'rich', 'PIL', 'diffusers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "fewstep.FewstepError, fewstep.load_recipe\n"
        "assert not {'torch', 'rich'} & set(sys.modules)\n"
        "fewstep.distill\n"
        "assert 'fewstep.cli.terminal' not in sys.modules\n"
    )
    root = Path(fewstep.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_is_there_and_documented() -> None:
    places = {name for names in fewstep._PLACES.values() for name in names}
    assert places == set(fewstep.__all__)
    for name in fewstep.__all__:
        assert (getattr(fewstep, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        fewstep.distil  # noqa: B018


# ---- recipes


def test_a_mapping_of_keys_says_the_same_as_texts() -> None:
    texts = fewstep.load_recipe("pocket", ["run.iterations=20", "data.t2i.0.source=pocket:t2i:8", "size=[32, 32]"])
    keys = {"run.iterations": 20, "data.t2i.0.source": "pocket:t2i:8", "size": (32, 32)}
    assert fewstep.load_recipe("pocket", keys) == texts
    plain = fewstep.load_recipe("pocket")
    assert plain.changed(keys) == texts
    assert plain.run.iterations == 96
    assert plain.changed({}) == plain
    assert plain.changed({"store": Path("x")}).store == "x"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run.iteration": 3}, r"^pocket: .*run\.iteration\b.*run\.iterations"),
        ({"run.iterations": "many"}, r"run\.iterations"),
        ({"run.iterations.x": 3}, r"^run\.iterations\.x: run\.iterations holds no keys"),
        ({"data.t2i.3.source": "x"}, r"^data\.t2i\.3\.source: data\.t2i has entries 0 to 0"),
        ({"run..x": 3}, "names with points between"),
        ({"extends": "pocket"}, "name the recipe itself"),
    ],
)
def test_a_change_that_makes_no_sense_is_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        fewstep.load_recipe("pocket").changed(changes)
    assert len(str(caught.value).splitlines()) == 1


def test_one_text_is_no_list_of_texts() -> None:
    with pytest.raises(RecipeError, match="give a mapping"):
        fewstep.load_recipe("pocket", "run.iterations=3")


# ---- the pages


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    told: dict[str, Any] = {"__name__": "page"}
    for block in blocks("python.md")[:-1]:
        exec(block, told)
    assert "run.iteration" in capsys.readouterr().out
    first, run, recipe = told["first"], told["run"], told["recipe"]
    assert (first.stopped, first.iterations, first.student) == (True, 2, None)
    assert (run.stopped, run.iterations, len(told["losses"])) == (False, 4, 2)
    assert (run.student / "model_index.json").is_file()
    assert told["picture"].size == (64, 64)
    assert list(Path("loras/small").glob("*.safetensors"))
    fewstep.distill(recipe, "runs/unbroken")
    assert_same_run(Path("runs/unbroken"), Path("runs/small"))
    examine, measure, compare, plan = blocks("python.md", "py")
    exec(on_less(examine, {"cases=20": "cases=1, diversity=1, seeds=2"}), told)
    assert told["found"].line("t2i.attributes")["against"]["student"]["n"] == 3
    for name, held in (("mine", "six"), ("teacher", "two")):
        shutil.copytree(JUDGED / held, Path("galleries") / name)
    asked = 'fewstep.generate_gallery("students/mine", "mini-t2i", "galleries/mine")'
    drawn = 'drawn = fewstep.generate_gallery("pocket", "pocket-t2i@2", "galleries/drawn", steps=1)'
    exec(on_less(measure, {asked: drawn, "against=": 'metrics=["flat_noise"], against='}), told)
    assert (told["drawn"].drawn, told["drawn"].failed) == (2, 0)
    assert told["measured"].means["flat_noise"]["luma"]["mean"]["n"] == 1
    exec(compare, told)
    assert told["answer"].found.outcome
    exec(on_less(plan, {'fewstep.load_recipe("qwen-image-2.1")': "recipe"}), told)
    assert told["needs"].fits
    assert told["needs"].memory.keys() == {"t2i"}


def test_the_script_makes_a_lora_of_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = blocks("python.md")[-1]
    assert len(script.strip().splitlines()) <= 20
    changes = SMALL | {"size": [64, 64], "run.gradient_checkpointing": "off", "run.device": "cpu", "data.sizes.t2i": []}
    changes |= {"critic.warmup_iterations": 1, "examine": None}
    smaller = {
        "/models/Qwen-Image-2.1": "pocket",
        "my-lora.safetensors": "pocket:portrait",
        "cases/t2i.jsonl": "pocket:t2i:8",
        "CHANGES = {}": f"CHANGES = {changes!r}",
    }
    exec(on_less(script, smaller), {"__name__": "script"})
    assert list(Path("loras/mine-4-steps").glob("*.safetensors"))
    with RunDir.open(Path("runs/my-lora")) as run:
        assert "pocket:portrait" in run.recipe.learned_from


def test_the_additions_of_the_page_join_a_run(tmp_path: Path) -> None:
    additions: dict[str, Any] = {"__name__": "additions"}
    exec(next(block for block in blocks("extending.md") if "def calm" in block), additions)
    recipe = small_recipe(**{"run.examine_every_iterations": 1, "run.best_by": "size", "run.best_is": "lowest"})
    extra, examiner = [additions["calm"]], additions["weight_examiner"]
    run = fewstep.distill(recipe, tmp_path / "run", extra_losses=extra, examiner=examiner)
    assert run.best is not None
    assert run.best.is_dir()
    trained = [line for line in lines(run.folder) if line["phase"] == "distil"]
    assert all(isinstance(line["calm_excess"], float) for line in trained)
    examined = {line["iteration"]: line["size"] for line in lines(run.folder) if line["phase"] == "examine"}
    assert run.best_figure == min(examined[1], examined[2])
    assert RunDir.open(run.folder).environment()[0]["extra_losses"] == ["additions.calm"]


def test_what_cannot_be_called_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"extra_losses\[0\] is 0\.3, which cannot be called"):
        fewstep.distill(small_recipe(), tmp_path / "run", extra_losses=[0.3])  # type: ignore[list-item]
    assert not (tmp_path / "run").exists()
