"""What is refused at the door: trackers that nobody knows, that are not installed, or that would ask for a key."""

import sys
from pathlib import Path
from typing import Any

import pytest

from fewstep.run.recipe import load_recipe
from fewstep.run.tracking.kinds import KINDS, refuse_missing_trackers
from fewstep.runtime.errors import EnvironmentRefused, RecipeError


@pytest.mark.parametrize("name", KINDS)
def test_a_tracker_that_is_not_installed_is_refused_with_its_extra(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentRefused, match=rf"{name} is not installed here; pip install 'fewstep\[{name}\]'"):
        refuse_missing_trackers([name])


def test_a_folder_of_that_name_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline runs of wandb leave a folder `wandb`, and `python -m fewstep` looks for packages where it is started."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(EnvironmentRefused, match="wandb is not installed here"):
        refuse_missing_trackers(["wandb"])


@pytest.mark.parametrize(
    ("track", "word"),
    [(["tensorbord"], "tensorboard"), (["trackio", "trackio"], "trackio stands there twice"), ("wandb", "track")],
)
def test_a_list_that_cannot_be_used_is_refused(track: Any, word: str) -> None:
    with pytest.raises(RecipeError, match=word):
        load_recipe("pocket", {"track": track})


def test_a_tracker_changes_no_weights() -> None:
    plain, tracked = load_recipe("pocket"), load_recipe("pocket", {"track": ["tensorboard"]})
    assert plain.fingerprint() == tracked.fingerprint()


def test_wandb_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else it would ask at the terminal, hours later perhaps, or refuse once the model is loaded."""
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentRefused, match="no key for its server; call `wandb login`, or set WANDB_MODE=off"):
        refuse_missing_trackers(["wandb"])
    wandb.teardown()


def test_trackio_that_writes_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "someone/space")
    with pytest.raises(EnvironmentRefused, match="TRACKIO_SPACE_ID is set; unset it, and publish"):
        refuse_missing_trackers(["trackio"])
