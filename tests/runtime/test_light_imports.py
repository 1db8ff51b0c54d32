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


CACHES = """
import functools
from importlib import metadata
from fewstep.runtime import light_imports as light
light.LIBRARIES = ("colorsys",)
listing = metadata.packages_distributions
with light.light_imports():
    print(functools.lru_cache(abs).cache_info().maxsize, functools.lru_cache(maxsize=3)(abs).cache_info().maxsize)
    listed = metadata.packages_distributions()
print(functools.lru_cache(abs).cache_info().maxsize, metadata.packages_distributions is listing)
print("none" in listed, dict(listed) == listing())
"""


def test_caches_of_no_named_size_are_unlimited_inside_and_packages_are_listed_when_asked_for() -> None:
    made = subprocess.run([sys.executable, "-c", CACHES], check=True, capture_output=True, text=True).stdout.split()
    assert made == ["None", "3", "128", "True", "False", "True"]
