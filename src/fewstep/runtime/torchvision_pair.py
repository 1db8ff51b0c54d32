"""One remedy, applied before the first import of diffusers or transformers.

The Qwen3-VL processor imports torchvision. Where torch is a CPU build and torchvision the CUDA wheel, torchvision's
compiled operators do not load, and `import torchvision` stops at "operator torchvision::nms does not exist" - although
nothing here calls that operator. Declaring the two operators lets the import go through.
"""

import importlib
import sys
from importlib import metadata

from fewstep.runtime import torchvision_import
from fewstep.runtime.errors import EnvironmentRefused

_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library = None  # the declarations live as long as this object


def ensure() -> None:
    """Makes `import torchvision` work. Further calls are cheap and change nothing.

    Raises:
        EnvironmentRefused: torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return
    _forget_half_imported()  # by an attempt before this one
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise EnvironmentRefused(
            "torchvision is not installed; the Qwen3-VL processor needs it. Install it beside torch: "
            'pip install "torchvision>=0.26,<0.29"'
        ) from error
    except RuntimeError as error:
        declare_operators_for(error)
        importlib.import_module("torchvision")


def pair_fault() -> str | None:
    """What a plain program meets here, and the remedy; None where torch and torchvision fit. `ensure` was called."""
    if _library is None:
        return None
    torch, torchvision = (metadata.version(name) for name in ("torch", "torchvision"))
    said = f"of different builds: torchvision {torchvision} does not import beside torch {torch}"
    if torchvision_import.installed():
        return f"{said} alone, and is mended in this environment whenever it is imported (scripts/setup.sh)"
    return (
        f"{said}. fewstep mends that for itself; other programs fail at `import diffusers`. Install both from one "
        "place (pip install --force-reinstall torch torchvision), or mend this environment: "
        "python scripts/mend_torchvision.py"
    )


def declare_operators_for(error: RuntimeError) -> None:
    """Declares the operators whose lack ended an import of torchvision with this error, so that it can begin anew. Any
    other error is raised again."""
    if "torchvision::nms" not in str(error):
        raise error
    global _library
    import torch

    _forget_half_imported()
    _library = torch.library.Library("torchvision", "DEF")
    for name, schema in _OPERATORS.items():
        _library.define(name + schema)


def _forget_half_imported() -> None:
    """Removes the submodules that a failed import leaves behind, and that would break the next import."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
