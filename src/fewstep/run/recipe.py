"""The recipe of one run: complete, frozen and checked.

It is composed of the sections that each room owns. This file reads, combines and checks them.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from rapidfuzz import fuzz, process

from fewstep.data.mixture import Ratio, used_tasks
from fewstep.data.phases import Phases
from fewstep.data.plan import (
    MAX_SIDE,
    ONE_OR_SCHEDULE,
    DataPlan,
    TasksPlan,
    TasksSection,
    mixture_of,
    refuse_unreachable,
)
from fewstep.flow.guidance import Guidance
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.run.shared_base import refuse_learning_base
from fewstep.run.tracking.names import TrackerNames
from fewstep.runtime import strict_yaml
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.key_help import (
    NEAR,
    KeyNote,
    key_notes,
    refusals,
)
from fewstep.runtime.section import Section
from fewstep.runtime.task import Task
from fewstep.train.plan import RunPlan

# These keys change where and how a run works, not which weights it makes. A run may be resumed with other values.
OPERATIONAL = (
    "name",
    "store",
    "student.forward_once",
    "run.best_by",
    "run.best_is",
    "run.blocks_to_swap",
    "run.compile",
    "run.device",
    "run.examine_every_iterations",
    "run.gradient_accumulation",
    "run.gradient_checkpointing",
    "run.keep_best",
    "run.keep_checkpoints",
    "run.keep_students",
    "run.max_skipped_updates",
    "run.sample_every_iterations",
    "run.save_every_iterations",
    "run.sharding",
    "teachers.watch.latents",
    "track",
)
# A run's cases.json pins the sizes of its cases themselves, as these keys made them. So a run whose cases are all of
# one size, as those of earlier versions of fewstep may be, goes on under either value.
PINNED_WITH_CASES = ("data.sizes.t2i", "data.sizes.edit")

SectionT = TypeVar("SectionT", bound=Section)


def _default_section(section: type[SectionT]) -> SectionT:
    """A section with every key at its default."""
    return section.model_validate({})


class Recipe(Section):
    """Everything that determines a run."""

    name: str = Field(description="names the run folder; without one, the name of the recipe's file")
    model: str = Field(min_length=1, description="the base teacher: pocket, a folder, or a hub id")
    size: tuple[int, int] = Field(
        description="[height, width] of the target in px, where neither a case nor data.sizes names one"
    )
    store: str | None = Field(None, description="folder of the conditioning store; null: `store` beside the run folder")
    run: RunPlan = Field(_default_section(RunPlan), description="how long, how large, how often")
    tasks: TasksSection = Field(
        _default_section(TasksPlan),
        discriminator=ONE_OR_SCHEDULE,
        description="the task mixture, in batches: one ratio, or a schedule of them",
    )
    data: DataPlan = Field(_default_section(DataPlan), description="where the cases come from")
    teachers: TeachersSpec = Field(_default_section(TeachersSpec), description="who teaches at which student step")
    student: StudentPlan = Field(_default_section(StudentPlan), description="the network that is shipped, and its grid")
    critic: CriticPlan = Field(
        _default_section(CriticPlan), description="the network that learns what the student makes"
    )
    objective: ObjectivePlan = Field(_default_section(ObjectivePlan), description="distribution matching")
    examine: ExaminePlan | None = Field(
        None, description="how the run examines itself, every run.examine_every_iterations; null: not at all"
    )
    track: TrackerNames = Field(
        (), description="trackers that show figures and sample pictures beside the run; each is an extra to install"
    )

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(f"name {name!r:.110} cannot name a folder; use letters, digits, . _ and -, at most 100")
        return name

    @field_validator("size")
    @classmethod
    def _sides(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(0 < side <= MAX_SIDE for side in size):
            raise ValueError(f"size {list(size)} is no picture; give [height, width] in px, such as [1024, 1024]")
        return size

    @model_validator(mode="after")
    def _sources_for_tasks(self) -> "Recipe":
        refuse_unreachable(self.tasks, self.data, self.run.iterations)
        self.objective.refuse_idle_terms(used_tasks(self.mixture))
        return self

    @model_validator(mode="after")
    def _teachers_fit(self) -> "Recipe":
        teacher_plan(self.teachers, self.student.steps)
        return self

    @model_validator(mode="after")
    def _base_stays_whole_for_copies(self) -> "Recipe":
        refuse_learning_base(self)
        return self

    @model_validator(mode="after")
    def _steps_left_to_match(self) -> "Recipe":
        if (
            max(self.objective.first_matched_step("t2i"), self.objective.first_matched_step("edit"))
            >= self.student.steps
        ):
            raise ValueError(
                "objective.first_step_anchor.detach leaves distribution matching no step of a student of one; "
                "set student.steps to 2 or more, or detach to false"
            )
        return self

    @model_validator(mode="after")
    def _activations_of_one_part(self) -> "Recipe":
        if self.student.forward_once and (self.run.most_parts > 1 or self.run.sharding != "off"):
            raise ValueError(
                "student.forward_once holds the student's activations through the critic's updates: with "
                "run.gradient_accumulation those of all parts, and with run.sharding split weights would have to be "
                "gathered for them out of turn; set it to false"
            )
        return self

    @property
    def mixture(self) -> Phases[Ratio]:
        """The task ratio over the run."""
        return mixture_of(self.tasks)

    @property
    def learned_from(self) -> tuple[str, ...]:
        """What the student was initialised from and who teaches it, beside the base: hub ids, and names of files and
        folders without their paths on this machine."""
        used = teacher_plan(self.teachers, self.student.steps).used[1:]
        named = [self.teachers.named[name] for name in used]
        local = [self.student.init_from, *(spec.adapter for spec in named)]
        models = [Path(m).name if Path(m).is_absolute() or Path(m).is_dir() else m for s in named if (m := s.model)]
        return tuple(dict.fromkeys([*(Path(file).name for file in local if file), *models]))

    def store_folder(self, out: Path) -> Path:
        """The folder of conditioning stores and of generated or unpacked cases, for a run folder `out`."""
        return Path(self.store) if self.store else out.parent / "store"

    def negatives(self, tasks: Sequence[Task], default: Guidance) -> dict[Task, tuple[str, ...]]:
        """The negative prompts that the guidance of any teacher needs, by task. default: the family's guidance."""
        by_teacher = [self.teachers.base.guidance, *(spec.guidance for spec in self.teachers.named.values())]
        found: dict[Task, set[str]] = {task: set() for task in tasks}
        for given in by_teacher:
            for task in tasks:
                guidance = given[task].guidance() if given and task in given else default
                if guidance.active:
                    found[task].add(guidance.negative)
        return {task: tuple(sorted(prompts)) for task, prompts in found.items()}

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as JSON types."""
        return self.model_dump(mode="json")

    def resolved_yaml(self) -> str:
        """The text from which `load_recipe` reads the same recipe."""
        return strict_yaml.dump_yaml(self.resolved())

    def changed(self, changes: Mapping[str, Any]) -> "Recipe":
        """A copy with other values of these dotted keys, checked as a file is: `{"run.iterations": 20}`. Entries of a
        list are named by their numbers, as in `data.t2i.0.source`.

        Raises:
            RecipeError: one line for each thing that is wrong. This recipe stays as it is.
        """
        raw = self.resolved()
        _apply(raw, changes)
        return parse_recipe(raw, self.name)

    def fingerprint(self, without: Sequence[str] = ()) -> str:
        """A short hash of all that determines the weights: every key except those in OPERATIONAL, and `without`."""
        every = flat_keys(self.resolved())
        keys = {key: value for key, value in every.items() if not _is_operational(key) and key not in without}
        return hashlib.blake2b(json.dumps(keys, sort_keys=True).encode(), digest_size=8).hexdigest()


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Recipe:
    """The recipe that a shipped name or a file gives, with overrides on top.

    Args:
        name: a shipped recipe (`shipped_recipes()`), or a YAML file.
        overrides: values by dotted key, such as `{"run.iterations": 20}`; or `key=value` texts as `--set` takes them,
            each value read as YAML.

    Raises:
        RecipeError: one line for each error.
    """
    raw = raw_recipe(str(name))
    _apply(raw, overrides)
    return parse_recipe(raw, str(name))


def parse_recipe(raw: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with these keys. where: named in errors.

    Raises:
        RecipeError: as `load_recipe`.
    """
    try:
        return Recipe.model_validate(dict(raw))
    except ValidationError as error:
        lines = refusals(error, raw, describe())
        raise RecipeError("\n".join(f"{where}: {line}" for line in lines)) from error


def with_run_keys(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A copy with other values of keys of `run`, where they are known to be right: nothing is checked."""
    return recipe.model_copy(update={"run": recipe.run.model_copy(update=dict(changes))})


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def describe() -> list[KeyNote]:
    """Every key of a recipe: dotted name, type, default, meaning."""
    return key_notes(Recipe)


def recipe_diff(a: Recipe, b: Recipe) -> list[str]:
    """`key: value in a -> value in b`, for every key in which they differ."""
    left, right = flat_keys(a.resolved()), flat_keys(b.resolved())
    keys = list(dict.fromkeys([*left, *right]))
    shown = [(key, left.get(key, "(not there)"), right.get(key, "(not there)")) for key in keys]
    return [f"{key}: {old} -> {new}" for key, old, new in shown if old != new]


def weight_changes(held: Recipe, chosen: Recipe) -> list[str]:
    """`recipe_diff`, but only of keys that determine the weights."""
    return [line for line in recipe_diff(held, chosen) if not _is_operational(line.partition(":")[0])]


def _is_operational(key: str) -> bool:
    """How a run examines itself changes no weights either; which set it began with is held by its folder."""
    inside = (key.rpartition(".")[0], key)  # of a key that may hold a value for each task
    return any(part in OPERATIONAL for part in inside) or key.partition(".")[0] == "examine"


def flat_keys(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted keys and their values. A list is one value."""
    if not isinstance(value, dict) or not value:
        return {key: value}
    prefix = f"{key}." if key else ""
    return {k: v for name, part in value.items() for k, v in flat_keys(part, f"{prefix}{name}").items()}


def _folder() -> Any:
    return resources.files("fewstep") / "run" / "recipes"


def _text(name: str, where: str) -> tuple[str, str]:
    """(text, stem) of a shipped recipe or of a file."""
    if name in shipped_recipes():
        return (_folder() / f"{name}.yaml").read_text(encoding="utf-8"), name
    path = Path(name)
    if not path.is_file():
        near = process.extractOne(name, shipped_recipes(), scorer=fuzz.ratio, score_cutoff=NEAR)
        meant = f"did you mean {near[0]}?" if near else f"shipped are: {', '.join(shipped_recipes())}"
        raise RecipeError(f"{where}: {name} is no file and no shipped recipe; {meant}")
    try:
        return path.read_text(encoding="utf-8-sig"), path.stem
    except UnicodeDecodeError as error:
        raise RecipeError(f"{name}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{name}: cannot be read ({error.strerror})") from error


def _mapping(name: str, where: str) -> tuple[dict[str, Any], str]:
    text, stem = _text(name, where)
    raw = strict_yaml.load_yaml(text, name)
    if not isinstance(raw, dict):
        raise RecipeError(f"{name}: holds no keys; a recipe is `key: value` lines (fewstep recipe show pocket)")
    return raw, stem


def raw_recipe(name: str) -> dict[str, Any]:
    """A file's keys over those of the recipe that it extends."""
    raw, stem = _mapping(name, "recipe")
    base_name = raw.pop("extends", None)
    base: dict[str, Any] = {}
    if base_name is not None:
        base, _ = _mapping(_base_of(name, base_name), f"{name}: extends")
        if "extends" in base:
            raise RecipeError(f"{name}: extends {base_name}, which extends another recipe itself; extend that one")
    default = re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip("._-")
    return _merged(base, {"name": default, **raw})


def _base_of(name: str, base: object) -> str:
    """The shipped recipe, or the file beside the one that extends it."""
    if not isinstance(base, str):
        raise RecipeError(f"{name}: extends is {base!r}; give the name of a shipped recipe or a file")
    return base if base in shipped_recipes() else str(Path(name).parent / base)


def _merged(base: Any, over: Any) -> Any:
    """Mappings are merged key by key. Everything else is replaced, lists too."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}


def _apply(raw: dict[str, Any], overrides: Mapping[str, Any] | Sequence[str]) -> None:
    if isinstance(overrides, str):
        raise RecipeError(f"overrides {overrides!r:.60}: give a mapping, such as {{'run.iterations': 300}}, or a list")
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            set_key(raw, str(key), _plain(value), str(key))
        return
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise RecipeError(f"--set {override}: write key=value, such as --set run.iterations=300")
        set_key(raw, key.strip(), strict_yaml.load_yaml(text, f"--set {key}"), f"--set {override}")


def _plain(value: Any) -> Any:
    """As YAML would have it: paths are text, tuples lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def set_key(raw: dict[str, Any], key: str, value: Any, said: str) -> None:
    """A value at a dotted key; list entries by number. said: how messages name the change."""
    parts = key.split(".")
    if not all(parts):
        raise RecipeError(f"{said!r}: a key is names with points between, such as run.iterations")
    if parts[0] == "extends":
        raise RecipeError(f"{said}: extends stands in a recipe file; name the recipe itself instead")
    here: Any = raw
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        spot: Any = part
        if isinstance(here, list):
            if not part.isdecimal() or int(part) >= len(here):
                raise RecipeError(f"{said}: {'.'.join(parts[:number])} has entries 0 to {len(here) - 1}")
            spot = int(part)
        elif not isinstance(here, dict):
            raise RecipeError(f"{said}: {'.'.join(parts[:number])} holds no keys of its own")
        if last:
            here[spot] = value
        else:
            if isinstance(here, dict) and here.get(spot) is None:
                here[spot] = {}
            here = here[spot]
