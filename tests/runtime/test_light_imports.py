"""The lighter way to import the libraries, in processes of its own: it counts which of them are there already."""

import subprocess
import sys

SMALL = """
import gc, sys
from fewstep.runtime import light_imports as light
light.LIBRARIES = ("colorsys",)  # in the place of torch, which takes seconds
{before}
with light.light_imports():
    print(gc.isenabled())
    try:
        import scipy
        print("scipy")
    except ImportError:
        print("none")
print(gc.isenabled(), gc.get_freeze_count() > 0)
import scipy
print("scipy")
"""


def told(before: str = "") -> list[str]:
    script = SMALL.format(before=before)
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()


def test_inside_nothing_is_collected_and_scipy_is_not_found() -> None:
    assert told() == ["False", "none", "True", "True", "scipy"]


def test_where_a_library_is_imported_already_nothing_changes() -> None:
    assert told("import colorsys") == ["True", "scipy", "True", "False", "scipy"]
