"""What a plan is asked: a recipe, the shapes of its batches, and the options. Without torch.

`answer_key` hashes all that the answer follows from. Files are in it by what was read of them, so the same question is
one whose answer cannot differ; what is not known for certain without torch has no key.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fewstep.backbones.conditioning_estimate import CONFIG, TOKENIZERS, local_file, local_index, stated_config
from fewstep.backbones.folder import read_json
from fewstep.backbones.published_sizes import SCHEDULER, published_size
from fewstep.data.mixture import used_tasks
from fewstep.data.pictures import upright_size
from fewstep.run.budget.measured import measured_seconds, refuse_rates
from fewstep.run.budget.shapes import BatchShapes, batch_shapes
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.exam_judge import exam_judge
from fewstep.runtime.hardware import AMD, cuda_driver, processor_model
from fewstep.runtime.installed_code import code_hash

PCIE_GBS = 25.0  # ours, declared: 80 % of what PCI-SIG gives for PCIe 4.0 x16 (16 GT/s, 16 lanes, 128b/130b: 31.5 GB/s)
FAMILY_GROUP = "fewstep.families"  # of entry points: families of other packages


@dataclass(frozen=True)
class PlanOptions:
    """What `fewstep plan` is asked beside a recipe, as `needs.plan` has it."""

    gpu: int | None = None
    gpus: int = 1
    per_machine: int | None = None
    seconds_per_iteration: float | None = None
    measured: Path | None = None
    tflops: float | None = None
    pcie: float = PCIE_GBS


@dataclass(frozen=True)
class PlanQuestion:
    """A recipe, its options, and its cases' shapes as they were read. place: of its store, now or later."""

    recipe: Recipe
    options: PlanOptions
    place: Path
    shapes: BatchShapes

    @property
    def names_gpu(self) -> bool:
        """Whether a GPU is meant whatever this machine has."""
        return self.options.gpu is not None or self.recipe.run.device.startswith("cuda")


def plan_question(recipe: Recipe, out: Path | None, options: PlanOptions) -> PlanQuestion:
    """The question, with the recipe's cases read.

    Raises:
        RecipeError: two rates, or a teacher whose categories match no case. ModelError: a model of unknown size, before
            a case is read. CaseError: cases that are here and cannot be used. RunError: `measured` is no run.
    """
    tasks = used_tasks(recipe.mixture)
    refuse_rates(options.seconds_per_iteration, options.measured, options.tflops, options.pcie, tasks)
    if stated_config(recipe.model) is None:  # a model of unknown size is refused before its cases are read
        published_size(recipe.model)
    place = recipe.store_folder(Path("runs") / recipe.name if out is None else out)
    return PlanQuestion(recipe, options, place, batch_shapes(recipe, place))


def answer_key(question: PlanQuestion) -> str | None:
    """A hash of all that an answer follows from; None where that cannot be told without counting.

    Raises:
        RunError: `measured` is no run (any more). RecipeError: the judge's declaration cannot be used.
    """
    if _of_another_package(question.recipe.model):
        return None
    here = _machine(question)
    if here is None:
        return None
    told = {
        "code": code_hash(),
        "recipe": question.recipe.resolved(),
        "options": asdict(question.options),
        "measured": _measured(question),
        "shapes": [asdict(shape) for shape in (*question.shapes.by_task, *question.shapes.usual)],
        "words": [question.shapes.notes, question.shapes.told],
        "cases": _cases(question.shapes),
        "files": {str(path): _content(path) for path in model_files(question.recipe.model)},
        "judge": _judge(question.recipe),
        "machine": here,
    }
    return hashlib.blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def model_files(model: str) -> list[Path]:
    """The files of a model that a plan reads, if they are on this machine: the index, the configs, the licence, and the
    tokenizer, since the store's size is the sum over all texts."""
    index = local_index(model)
    beside = [] if index is None else [index, index.parent / "README.md"]
    names = CONFIG, SCHEDULER, *TOKENIZERS
    return [*beside, *(path for name in names if (path := local_file(model, name)) is not None)]


def _judge(recipe: Recipe) -> list[Any] | None:
    """What the judge's file declares, and the words of its protocols, which may stand in further files."""
    tasks = used_tasks(recipe.mixture)
    if recipe.examine is None or recipe.run.examine_every_iterations == 0 or not recipe.examine.sources(tasks):
        return None
    judge = exam_judge(recipe.examine, tasks)
    if judge is None:
        return None
    return [one.model_dump(mode="json") for one in (judge.endpoint, *judge.protocols.values())]


def _content(path: Path) -> str | None:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return None


def _measured(question: PlanQuestion) -> dict[Any, float] | None:
    run = question.options.measured
    return None if run is None else measured_seconds(run, used_tasks(question.recipe.mixture))


def _cases(shapes: BatchShapes) -> str:
    """A hash of the cases, and of their pictures' sizes and times."""
    h = hashlib.blake2b(digest_size=16)
    for case in shapes.cases:
        h.update(repr(case).encode("utf-8", "surrogatepass"))
        for path in case.references:
            stat = path.stat()
            h.update(repr((stat.st_size, stat.st_mtime_ns, upright_size(path, case.where))).encode())
    return h.hexdigest()


def _of_another_package(model: str) -> bool:
    """Whether the model's family may be another package's, whose code is not in the hash."""
    index = local_index(model)
    name = None if index is None else read_json(index).get("_class_name")
    return any(entry.name == name for entry in metadata.entry_points(group=FAMILY_GROUP))


def _machine(question: PlanQuestion) -> list[Any] | None:
    """What the answer follows from of this machine; None where only torch knows it."""
    run = question.recipe.run
    if question.names_gpu:
        return []
    driver = cuda_driver() if run.device == "auto" else []
    if run.device == "auto" and AMD.exists():
        return None
    processor = processor_model() if run.precision == "auto" else {}  # which precision is faster was measured on it
    return [driver, processor] if processor or run.precision != "auto" else None
