"""One remedy, applied before the first import of diffusers or transformers.

The Qwen3-VL processor imports torchvision. Where torch is a CPU build and torchvision the CUDA wheel, torchvision's
compiled operators do not load, and `import torchvision` stops at "operator torchvision::nms does not exist" - although
nothing here calls that operator. Declaring the two operators lets the import go through.
"""

import importlib
import sys

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
        if "torchvision::nms" not in str(error):
            raise
        _declare_operators()


def _declare_operators() -> None:
    global _library
    import torch

    _forget_half_imported()
    _library = torch.library.Library("torchvision", "DEF")
    for name, schema in _OPERATORS.items():
        _library.define(name + schema)
    importlib.import_module("torchvision")


def _forget_half_imported() -> None:
    """Removes the submodules that a failed import leaves behind, and that would break the next import."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
