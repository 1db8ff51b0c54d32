"""The trackers that a recipe may name, and what each of them needs."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fewstep.run.tracking.names import TrackerName
from fewstep.run.tracking.tensorboard_files import tensorboard_files
from fewstep.run.tracking.tracker import OpenTracker
from fewstep.run.tracking.trackio_run import refuse_remote_trackio, trackio_run
from fewstep.run.tracking.wandb_run import can_go_on, refuse_wandb_without_key, wandb_run
from fewstep.runtime.errors import EnvironmentRefused


def _nothing_refused() -> None:
    pass


def _always() -> bool:
    return True


@dataclass(frozen=True)
class TrackerKind:
    """
    Args:
        open: opens it for a run.
        refuse: raises EnvironmentRefused if its settings on this machine do not do.
        goes_on: whether it can add to what an earlier start of the run sent in whole. Otherwise each start sends the
            whole run.
    """

    open: OpenTracker
    refuse: Callable[[], None] = _nothing_refused
    goes_on: Callable[[], bool] = _always


KINDS: Mapping[TrackerName, TrackerKind] = {
    "trackio": TrackerKind(trackio_run, refuse_remote_trackio),
    "wandb": TrackerKind(wandb_run, refuse_wandb_without_key, can_go_on),
    "tensorboard": TrackerKind(tensorboard_files),
}


def refuse_missing_trackers(track: Sequence[TrackerName]) -> None:
    """
    Raises:
        EnvironmentRefused: one of these is not installed here, or its settings on this machine do not do.
    """
    for name in track:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of that name is no package
            raise EnvironmentRefused(
                f"track: {name} is not installed here; pip install 'fewstep[{name}]', or take it out of track"
            )
        KINDS[name].refuse()
