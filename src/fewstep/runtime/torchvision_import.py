"""Mends `import torchvision` in every program of an environment whose torch and torchvision are of different builds.

`scripts/mend_torchvision.py` writes a .pth file that calls `mend_next_import` when Python starts. That costs nothing
until torchvision is imported. Then, if its operators are missing, they are declared as `torchvision_pair` does it.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

NAME = "torchvision"


class MendingLoader(SourceFileLoader):
    """Runs torchvision, and once more with its operators declared if it stopped at one of them."""

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except RuntimeError as error:
            importlib.import_module("fewstep.runtime.torchvision_pair").declare_operators_for(error)
            super().exec_module(module)


class MendingFinder(MetaPathFinder):
    """Finds torchvision where Python itself would, and has it loaded by a MendingLoader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == NAME else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = MendingLoader(spec.loader.name, spec.loader.path)
        return spec


def mend_next_import() -> None:
    """The next import of torchvision in this process is mended."""
    if not installed():
        sys.meta_path.insert(0, MendingFinder())


def installed() -> bool:
    """Whether `mend_next_import` was called in this process."""
    return any(isinstance(finder, MendingFinder) for finder in sys.meta_path)
