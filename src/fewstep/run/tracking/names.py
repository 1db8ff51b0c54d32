"""The names of trackers in a recipe. Each is the name of its package and of the extra that installs it."""

from typing import Annotated, Literal

from pydantic import AfterValidator

TrackerName = Literal["trackio", "wandb", "tensorboard"]


def _each_once(track: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
    if twice := [name for name in track if track.count(name) > 1]:
        raise ValueError(f"{twice[0]} stands there twice; name each tracker once")
    return track


TrackerNames = Annotated[tuple[TrackerName, ...], AfterValidator(_each_once)]
