"""What `run.precision: auto` stands for on this machine.

It is settled once, before anything else of a run, and the run folder keeps the answer: a run that goes on, on another
machine too, goes on in the precision that it began with.
"""

from contextlib import suppress
from pathlib import Path

import torch

from fewstep.run.recipe import Recipe, load_recipe, with_run_keys
from fewstep.runtime.cpu_bfloat16 import bf16_against_fp32, fast_bfloat16
from fewstep.runtime.device import resolve_device
from fewstep.runtime.errors import FewstepError
from fewstep.runtime.reporter import SILENT, Reporter

AUTO = "auto"


def settle_precision(recipe: Recipe, folder: Path | None = None, reporter: Reporter = SILENT) -> Recipe:
    """The recipe with bf16 or fp32 in the place of `auto`; any other recipe as it is.

    A GPU computes in bf16 if it can. A CPU does where bf16 is faster, which is measured. The reporter is told which.

    Args:
        folder: of the run that this is for, or of the one it is forked from. What that run began with stays.

    Raises:
        EnvironmentRefused: the recipe's device is not available here.
    """
    if recipe.run.precision != AUTO:
        return recipe
    held = _held(folder)
    if held is not None:
        return with_precision(recipe, held)
    chosen, why = _fitting(resolve_device(recipe.run.device))
    reporter.say(f"precision {chosen}, since {why} (run.precision: auto)")
    return with_precision(recipe, chosen)


def precision_for(recipe: Recipe, on_gpu: bool) -> Recipe:
    """The recipe as a plan counts it, for a GPU that need not be here or for this CPU."""
    if recipe.run.precision != AUTO:
        return recipe
    return with_precision(recipe, "bf16" if on_gpu or fast_bfloat16() else "fp32")


def with_precision(recipe: Recipe, precision: str) -> Recipe:
    return with_run_keys(recipe, {"precision": precision})


def _held(folder: Path | None) -> str | None:
    """What the run in a folder began with. A recipe that cannot be read is refused where the run is opened."""
    file = None if folder is None else folder / "recipe.yaml"
    if file is not None and file.is_file():
        with suppress(FewstepError):
            held = load_recipe(file).run.precision
            return None if held == AUTO else held
    return None


def _fitting(device: torch.device) -> tuple[str, str]:
    """The precision for a device, and why."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU computes it"
        return "fp32", "this GPU does not know bf16"
    if device.type != "cpu":
        return "fp32", f"bf16 is not proved on {device.type}"
    times = f"this CPU takes {bf16_against_fp32():.2g} times as long for products in bf16 as in fp32"
    return ("bf16" if fast_bfloat16() else "fp32"), times
