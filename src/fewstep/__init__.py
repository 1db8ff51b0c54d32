"""fewstep distils a many-step flow-matching image model into one 4-step student that generates and edits.

    recipe = fewstep.load_recipe("pocket", {"run.iterations": 20})
    print(fewstep.plan(recipe).memory)
    run = fewstep.distill(recipe, "runs/mine")
    fewstep.sample_images(run.student, "a lighthouse at dawn")[0].save("dawn.png")

Each name below is imported when it is first used: `import fewstep` alone loads neither torch nor pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fewstep.runtime.openmp import settle_openmp

__version__ = "0.1.0"

settle_openmp()  # before any name below loads torch

if TYPE_CHECKING:
    from fewstep.bench.side_by_side import compare_galleries, measure_gallery, rank_galleries
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.run.budget.budget import RunNeeds, plan
    from fewstep.run.distill import DistilledRun, distill
    from fewstep.run.encoding import encode_recipe
    from fewstep.run.examination import ExaminationResult
    from fewstep.run.exporting import ExportedStudent, export_run
    from fewstep.run.gallery import GeneratedGallery, generate_gallery
    from fewstep.run.pocket_exam import examine_student
    from fewstep.run.recipe import Recipe, load_recipe, shipped_recipes
    from fewstep.runtime.errors import FewstepError
    from fewstep.runtime.reporter import Reporter
    from fewstep.sample.images import sample_images
    from fewstep.sample.pictures import Model, open_model

__all__ = [
    "DistilledRun",
    "ExaminationResult",
    "ExportedStudent",
    "FewstepError",
    "GeneratedGallery",
    "Model",
    "Recipe",
    "Reporter",
    "RunNeeds",
    "TerminalReporter",
    "compare_galleries",
    "distill",
    "encode_recipe",
    "examine_student",
    "export_run",
    "generate_gallery",
    "load_recipe",
    "measure_gallery",
    "open_model",
    "plan",
    "rank_galleries",
    "sample_images",
    "shipped_recipes",
]

_PLACES = {
    "fewstep.bench.side_by_side": ("compare_galleries", "measure_gallery", "rank_galleries"),
    "fewstep.cli.terminal": ("TerminalReporter",),
    "fewstep.run.budget.budget": ("RunNeeds", "plan"),
    "fewstep.run.distill": ("DistilledRun", "distill"),
    "fewstep.run.encoding": ("encode_recipe",),
    "fewstep.run.examination": ("ExaminationResult",),
    "fewstep.run.exporting": ("ExportedStudent", "export_run"),
    "fewstep.run.gallery": ("GeneratedGallery", "generate_gallery"),
    "fewstep.run.pocket_exam": ("examine_student",),
    "fewstep.run.recipe": ("Recipe", "load_recipe", "shipped_recipes"),
    "fewstep.runtime.errors": ("FewstepError",),
    "fewstep.runtime.reporter": ("Reporter",),
    "fewstep.sample.images": ("sample_images",),
    "fewstep.sample.pictures": ("Model", "open_model"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'fewstep' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_PLACE_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
