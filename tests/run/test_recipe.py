"""A recipe is read strictly: what is wrong is refused in one line that names the key and the remedy."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from fewstep.run.recipe import (
    OPERATIONAL,
    Recipe,
    describe,
    flat_keys,
    load_recipe,
    recipe_diff,
    shipped_recipes,
)
from fewstep.runtime import strict_yaml
from fewstep.runtime.errors import RecipeError


def mine(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as refused:
        load_recipe(mine(folder, text), overrides)
    return str(refused.value)


# ---- the shipped ones


def written_out(name: str) -> str:
    return (resources.files("fewstep") / "run" / "recipes" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_write_out_every_key_or_what_differs_from_one_that_does(name: str) -> None:
    keys = flat_keys(strict_yaml.load_yaml(written_out(name), name))
    base = keys.pop("extends", None)
    assert load_recipe(name).name == name
    if base is None:
        assert set(keys) == set(flat_keys(load_recipe(name).resolved()))
    else:
        assert "extends" not in flat_keys(strict_yaml.load_yaml(written_out(base), base))
        assert 3 < len(keys) < 20


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_numbers_say_where_they_come_from(name: str) -> None:
    text = written_out(name)
    numbered = [line for line in text.splitlines() if re.search(r"(?<![\w.-])-?\d", line.split("#")[0])]
    stated = [line for line in numbered if re.search(r"# .*(paper|field|ours)", line)]
    open_ones = [line.split(":")[0].strip(" -{") for line in numbered if line not in stated]
    assert len(stated) >= (2 if "extends: " in text else 25)
    assert set(open_ones) <= {"seed", "source", "t2i", "edit", "extends", "name", "model"}, (
        open_ones
    )  # a seed is a seed; 1 of 1 source is all of it; a name is no number


def test_the_numbers_of_the_large_recipe_are_those_of_the_field() -> None:
    recipe = load_recipe("qwen-image-2.1")
    assert list(recipe.student.grid) == pytest.approx([1, 0.9, 0.75, 0.5])
    assert (recipe.student.learning_rate, recipe.critic.learning_rate) == (2e-5, 5e-5)
    assert (recipe.critic.updates, recipe.critic.warmup_iterations) == (5, 50)
    assert recipe.tasks.ratio.weights == (5, 5)


def test_what_the_recipes_are_for() -> None:
    """All of them, and of each what its name promises."""
    names = "qwen-image-2.1 qwen-image-2.1-48gb qwen-image-2.1-full qwen-image-unified flux2-klein-24gb my-lora"
    newer = "z-image longcat-unified klein-9b flux3-klein flux3-klein-24gb"
    swapping = "qwen-image-2.1-24gb qwen-image-unified-48gb"
    assert set(shipped_recipes()) == {*names.split(), *newer.split(), *swapping.split(), "pocket", "pocket-harder"}
    for name in swapping.split():  # over exact models, whose blocks wait in host memory
        held = load_recipe(name)
        assert (held.run.base_weights, held.run.precision, held.size) == ("precision", "bf16", (1024, 1024))
        assert held.run.blocks_to_swap > 2
        assert held.tasks.ratio.weights == (5, 5)
        assert {teacher.place for teacher in held.teachers.named.values()} <= {"swapped"}
    full, unified, lora = load_recipe("qwen-image-2.1-full"), load_recipe("qwen-image-unified"), load_recipe("my-lora")
    assert (full.student.mode, full.critic.mode) == ("full", "full")
    assert 1e-6 <= full.student.learning_rate <= 2e-6
    routed = unified.teachers.named["drawing"]
    assert (unified.model, routed.model) == ("Qwen/Qwen-Image-Edit-2511", "Qwen/Qwen-Image-2512")
    assert (routed.anchor, routed.tasks) == (True, ("t2i",))
    both, z_image, klein = (load_recipe(name) for name in ("longcat-unified", "z-image", "klein-9b"))
    routed = both.teachers.named["drawing"]
    assert (both.model, routed.model) == ("meituan-longcat/LongCat-Image-Edit", "meituan-longcat/LongCat-Image")
    assert (routed.anchor, routed.tasks) == (True, ("t2i",))
    assert z_image.tasks.ratio.weights == (1, 0)
    assert klein.model.endswith("klein-base-9B")
    large, small = load_recipe("flux3-klein"), load_recipe("flux3-klein-24gb")
    assert large.model == small.model == "black-forest-labs/flux-3-image-klein-base"
    assert (small.run.batch, small.run.base_weights, large.run.base_weights) == (1, "int8", "precision")
    assert lora.student.init_from == lora.teachers.named["mine"].adapter
    assert lora.teachers.named["mine"].anchor


@pytest.mark.parametrize("name", shipped_recipes())
def test_resolved_text_reads_back_to_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    again = load_recipe(mine(tmp_path, recipe.resolved_yaml()))
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()


# ---- combining


def test_a_recipe_extends_another_one_level_deep(tmp_path: Path) -> None:
    recipe = load_recipe(mine(tmp_path, "extends: pocket\nrun: {batch: 8}\ndata: {t2i: [{source: a.txt}]}"))
    assert recipe.name == "mine"
    assert (recipe.run.batch, recipe.run.iterations) == (8, load_recipe("pocket").run.iterations)
    assert [source.source for source in recipe.data.t2i] == ["a.txt"]
    assert recipe.data.edit == load_recipe("pocket").data.edit
    mine(tmp_path, "extends: mine.yaml\nrun: {batch: 4}", "child.yaml")
    with pytest.raises(RecipeError, match="extends another recipe itself"):
        load_recipe(tmp_path / "child.yaml")


def test_a_file_extends_the_file_beside_it(tmp_path: Path) -> None:
    mine(tmp_path, load_recipe("pocket").resolved_yaml(), "base.yaml")
    mine(tmp_path, "extends: base.yaml\nname: other\nstudent: {ema: 0.5}")
    assert recipe_diff(load_recipe("pocket"), load_recipe(tmp_path / "mine.yaml")) == [
        "name: pocket -> other",
        f"student.ema: {load_recipe('pocket').student.ema} -> 0.5",
    ]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("run.iterations=300", "run.iterations", 300),
        ("student.learning_rate=1e-4", "student.learning_rate", 1e-4),
        ("data.t2i.0.source=x.jsonl", "data.t2i", [{"source": "x.jsonl", "category": None, "weight": 1}]),
        (
            "data.edit=[{source: y.jsonl, weight: 2}]",
            "data.edit",
            [{"source": "y.jsonl", "category": None, "weight": 2}],
        ),
        ("teachers.named.a.adapter=x", "teachers.named.a.adapter", "x"),
        ("teachers.base.guidance.t2i.scale=2", "teachers.base.guidance.t2i.scale", 2.0),
        ("data.category_weights.t2i.no=3", "data.category_weights.t2i.no", 3),
        ("store=a=b", "store", "a=b"),
        ("store=", "store", None),
    ],
)
def test_overrides_are_read_as_yaml(override: str, key: str, value: Any) -> None:
    recipe = load_recipe("pocket", [override])
    assert flat_keys(recipe.resolved())[key] == value


def test_later_overrides_win() -> None:
    assert load_recipe("pocket", ["student.steps=2", "student.steps=8"]).student.steps == 8


def test_settings_may_differ_by_task() -> None:
    run = load_recipe(
        "pocket", ["run.gradient_checkpointing={t2i: off, edit: true}", "run.gradient_accumulation={edit: 4}"]
    ).run
    assert run.recomputation_by_task == {"t2i": "off", "edit": "full"}
    assert (run.parts("t2i"), run.parts("edit"), run.most_parts) == (1, 4, 4)
    alone = run.of_task("edit")
    assert (alone.gradient_checkpointing, alone.gradient_accumulation) == ("full", 4)


# ---- refusing

POCKET = "extends: pocket\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("studnet: {steps: 4}", "studnet is no key of a recipe; did you mean student?"),
        ("run: {iteration: 4}", "run.iteration is no key of a recipe; did you mean run.iterations?"),
        (
            "run: {gradient_accumulation: 2}\nstudent: {forward_once: true}",
            "student.forward_once holds the student's activations",
        ),
        (
            "run: {gradient_accumulation: {edit: 2}}\nstudent: {forward_once: true}",
            "student.forward_once holds the student's activations",
        ),
        ("run: {gradient_checkpointing: {edit: half}}", "run.gradient_checkpointing.edit should be 'off', "),
        ("run: {gradient_checkpointing: {edti: full}}", "run.gradient_checkpointing.edti should be 't2i' or 'edit'"),
        ("run: {gradient_checkpointing: some}", "run.gradient_checkpointing should be 'auto', 'off', 'selective' or"),
        ("run: {gradient_accumulation: 0}", "run.gradient_accumulation should be from 1 to 65,536, not 0"),
        (
            "run: {gradient_accumulation: {edit: 0}}",
            "run.gradient_accumulation of edit should be from 1 to 65,536, not 0",
        ),
        ("run: {gradient_checkpointing: {}}", "a value for each task has at least one"),
        ("run: {gradient_accumulation: {edit: 17}}", "cannot be accumulated in 17 parts"),
        ("iterations: 4", "iterations is no key of a recipe; did you mean run.iterations?"),
        ("student: {lr: 4}", "student.lr is no key of a recipe; did you mean student.learning_rate?"),
        ("student: {adapter: {rnk: 4}}", "did you mean student.adapter.rank?"),
        (
            "data: {t2i: [{source: a, wieght: 2}]}",
            "data.t2i.0.wieght is no key of a recipe; did you mean data.t2i.0.weight?",
        ),
        (
            "teachers: {named: {a: {adaptr: x}}}",
            "teachers.named.a.adaptr is no key of a recipe; did you mean teachers.named.a",
        ),
        ("teachers: {base: {guidance: {t2i: {scales: 1}}}}", "did you mean teachers.base.guidance.t2i.scale?"),
        ("xyzzy: 1", "xyzzy is no key of a recipe (fewstep recipe schema)"),
        ("student: {sigmas: [1, .9, .75, .5]}", "student.sigmas and student.shift exclude each other"),
        ("student: {sigmas: [1, .9], shift: null}", "student.steps is 4 but student.sigmas has 2"),
        ("student: {sigmas: [1, .5, .75, .2], shift: null}", "sigmas must decrease"),
        ("student: {sigmas: [1.5, .9, .75, .5], shift: null}", "sigmas lie in (0, 1]"),
        ("student: {shift: -1}", "student.shift should be teacher, or a number above 0 and at most 1,000; not -1"),
        ("student: {learning_rate: fast}", "student.learning_rate should be a number, not 'fast'"),
        ("student: {learning_rate: .nan}", "student.learning_rate should be a finite number"),
        ("student: {learning_rate: 0}", "student.learning_rate should be greater than 0"),
        (
            "run: {base_weights: int8}\ncritic: {mode: full}",
            "run.base_weights: int8 is for a base that only adapters share, and critic.mode is full",
        ),
        ("run: {base_weights: int8, sharding: full}", "run.base_weights: int8 is for weights that lie whole"),
        ("run: {base_weights: fp8-w8a8}\nstudent: {mode: full}", "run.base_weights: fp8-w8a8 is for a base that only"),
        ("run: {base_weights: int8-w8a8, sharding: full}", "run.base_weights: int8-w8a8 is for weights that lie whole"),
        (
            "run: {blocks_to_swap: 3, gradient_checkpointing: full}\nstudent: {mode: full}",
            "run.blocks_to_swap is 3, which is for a base that only adapters share, and student.mode is full: weights",
        ),
        (
            "run: {blocks_to_swap: 2, gradient_checkpointing: full}",
            "which saves nothing: two swapped blocks are on the",
        ),
        ("run: {blocks_to_swap: 3}", "with run.gradient_checkpointing: off every block's weights would stay"),
        ("run: {blocks_to_swap: 3, gradient_checkpointing: {t2i: full, edit: off}}", "off every block's weights would"),
        ("run: {blocks_to_swap: 3, gradient_checkpointing: auto, compile: true}", "and run.compile is true"),
        (
            "run: {blocks_to_swap: 3, gradient_checkpointing: full, sharding: full}",
            "which is for weights that lie whole on each GPU, and run.sharding is full",
        ),
        (
            "run: {sharding: full}\nteachers: {preset: constant, named: {x: {model: x, place: swapped}}}",
            "teachers.named.x.place: swapped is for weights that lie whole on each GPU, and run.sharding is full",
        ),
        (
            "run: {compile: true}\nteachers: {preset: constant, named: {x: {model: x, place: swapped}}}",
            "teachers.named.x.place: swapped, and run.compile is true",
        ),
        *(
            (f"run: {{blocks_to_swap: {given}}}", "run.blocks_to_swap should be auto, or a whole number from 0 on; not")
            for given in ("-1", "2.5", "some", "true", "null", "[3]", ".inf")
        ),
        ("run: {blocks_to_swap: auto}", "run.blocks_to_swap is auto, and with run.gradient_checkpointing: off every"),
        (
            "run: {blocks_to_swap: auto, gradient_checkpointing: auto, compile: true}",
            "auto, and run.compile is true",
        ),
        (
            "run: {blocks_to_swap: auto, gradient_checkpointing: full, sharding: full}",
            "run.blocks_to_swap is auto, which is for weights that lie whole on each GPU, and run.sharding is full",
        ),
        (
            "run: {blocks_to_swap: auto, gradient_checkpointing: auto}\ncritic: {mode: full}",
            "run.blocks_to_swap is auto, which is for a base that only adapters share, and critic.mode is full",
        ),
        ("student: {mode: lora}", "student.mode should be 'adapter' or 'full', not 'lora'"),
        ("tasks: {t2i: 0, edit: 0}", "tasks 0:0 leave nothing to learn"),
        ("tasks: {t2i: -1}", "tasks -1:5 leave nothing to learn"),
        ("tasks: {t2i: 0.5}", "tasks.t2i should be a whole number, not 0.5"),
        ("data: {t2i: []}", "tasks.t2i is 5 but data.t2i names no source; name one, or set tasks.t2i to 0"),
        ("data: {t2i: [{weight: 1}]}", "data.t2i.0.source is missing"),
        ("data: {t2i: [{source: a, weight: 0}]}", "data.t2i: the weights of the sources sum to 0"),
        ("data: {t2i: [{source: a, weight: -1}]}", "data.t2i.0.weight should be greater than or equal to 0, not -1"),
        ("data: {category_weights: {edit: {text: 0}}}", "data.category_weights.edit sum to 0"),
        ("data: {category_weights: {edit: {text: -2}}}", "data.category_weights.edit hold a negative number"),
        (
            "data: {t2i: [{source: a, category: sea}], category_weights: {t2i: {see: 1}}}",
            "data.category_weights.t2i.see: no source has this category; they have sea",
        ),
        (
            "teachers: {base: {guidance: {t2i: {scale: -1}}}}",
            "guidance.t2i.scale should be greater than or equal to 0 and less than or equal to 1,000, not -1",
        ),
        ("teachers: {base: {guidance: {video: {scale: 1}}}}", "video"),
        ("objective: {time_low: 0.9, time_high: 0.1}", "time_low"),
        ("run: {iterations: 0}", "run.iterations should be greater than 0 and less than or equal to 1,000,000, not 0"),
        ("run: {iterations: true}", "run.iterations: holds true or false where a number stands"),
        ("run: {seed: 99999999999999999999}", "run.seed: holds a number of more than 64 bits"),
        ("size: [true, 64]", "size: holds true or false where a number stands"),
        ("student: {betas: [0.0, true]}", "student.betas: holds true or false"),
        ("student: {learning_rate: 2}", "greater than 0 and less than or equal to 1, not 2"),
        ("tasks: [{t2i: true, edit: 0}]", "tasks.0.t2i: holds true or false"),
        ("data: {category_weights: {t2i: {text: true}}}", "data.category_weights.t2i: holds true or false"),
        (
            "critic: {warmup_iterations: 1e9}",
            "critic.warmup_iterations should be greater than or equal to 0 and less than or equal to 100,000, not",
        ),
        ("teachers: {lam_max: -1}", "teachers.lam_max: weights of teachers lie in [0, 1]; those are [-1.0]"),
        ("teachers: {lam_max: {a: 0.5, b: 2}}", "teachers.lam_max: weights of teachers lie in [0, 1]; those of 'b'"),
        ("teachers: {rows: [0, 0, 0.5, 1.5]}", "teachers.rows: weights of teachers lie in [0, 1]"),
        ("teachers: {named: {a: {adapter: x, tasks: []}}}", "teachers.named.a.tasks should hold at least 1, not 0"),
        ("teachers: {named: {a: {adapter: x, categories: []}}}", "a.categories should hold at least 1, not 0"),
        ("run: 3", "run should hold `key: value` lines, not 3"),
        ("size: 64", "size should be a list, not 64"),
        ("size: [0, 64]", "size [0, 64] is no picture"),
        ("name: ../up", "name '../up' cannot name a folder"),
        ("name: 3", "name should be text, not 3"),
        ("run: {batch: 4}\nrun: {batch: 5}", "key 'run' stands twice"),
        ("run: {batch: 4", "no YAML"),
        ("run: !!python/object:os.system x", "no YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(tmp_path, POCKET + text)
    assert expected in message
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "mine.yaml"))


def test_everything_wrong_is_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, POCKET + "lr: 3\nstudent: {step: 4, ema: 2}\nsize: [1]")
    keys = [line.split(": ")[1].split(" ")[0] for line in message.splitlines()]
    assert keys == ["size", "student.ema", "student.step", "lr"]


def test_a_teacher_of_the_extended_recipe_can_be_taken_out(tmp_path: Path) -> None:
    assert "editor" in load_recipe("pocket").teachers.named
    text = "extends: pocket\nstudent: {init_from: null}\nteachers: {named: {editor: null}}"
    assert load_recipe(mine(tmp_path, text)).teachers.named == {}
    assert load_recipe("pocket", ["teachers.named.editor=null"]).teachers.named == {}


@pytest.mark.parametrize("text", ["", "- a", "pocket", "3"])
def test_a_file_without_keys_is_no_recipe(tmp_path: Path, text: str) -> None:
    assert "holds no keys" in refusal(tmp_path, text)


def test_missing_keys_are_named_with_their_meaning(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: x\n")
    assert "model is missing: the base teacher" in message
    assert "size is missing: " in message


@pytest.mark.parametrize(
    "override", ["run.iterations", "=3", "run..batch=3", "model.x=3", "data.t2i.7.source=x", "extends=pocket"]
)
def test_overrides_that_make_no_sense(override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe("pocket", [override])


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"poket is no file and no shipped recipe; did you mean pocket\?"):
        load_recipe("poket")
    assert "gone" in refusal(tmp_path, "extends: gone")
    (tmp_path / "latin.yaml").write_bytes("name: Öl".encode("latin-1"))
    with pytest.raises(RecipeError, match="not UTF-8 at byte 6"):
        load_recipe(tmp_path / "latin.yaml")


# ---- identity


def test_the_fingerprint_is_of_what_determines_the_weights() -> None:
    plain = load_recipe("pocket").fingerprint()
    assert load_recipe("pocket", ["name=other", "run.device=cpu", "run.keep_checkpoints=9"]).fingerprint() == plain
    for override in ("run.seed=1", "run.iterations=151", "student.ema=0.5", "data.t2i.0.weight=2", "tasks.t2i=4"):
        assert load_recipe("pocket", [override]).fingerprint() != plain, override


def test_operational_keys_are_keys() -> None:
    assert set(OPERATIONAL) <= {note.key for note in describe()}


def test_every_key_is_described() -> None:
    notes = {note.key: note for note in describe()}
    assert all(note.description for note in notes.values()), [k for k, note in notes.items() if not note.description]
    assert notes["run.iterations"].type == "whole number"
    assert notes["teachers.named.<name>.adapter"].type == "text | null"
    assert notes["data.t2i[].source"].default == "(required)"
    plain = {re.sub(r"\.(t2i|edit)\.", ".<task>.", key) for key in flat_keys(load_recipe("qwen-image-2.1").resolved())}
    assert {key for key in plain if "guidance" not in key} <= {key for key in notes if "[]" not in key} | {
        "teachers.named"
    }


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("pocket").name = "x"  # type: ignore[misc]


def test_recipes_are_compared_key_by_key() -> None:
    a, b = load_recipe("pocket"), load_recipe("pocket", ["teachers.base.guidance.t2i.scale=2", "run.seed=1"])
    assert recipe_diff(a, a) == []
    assert "run.seed: 0 -> 1" in recipe_diff(a, b)
    assert any(line.startswith("teachers.base.guidance.t2i.scale: ") for line in recipe_diff(a, b))
    assert isinstance(a, Recipe)
