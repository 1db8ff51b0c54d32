"""What trackers have of a run, in `tracking.json` of its folder.

A tracker stands there once it was closed, with the last step that it has. While it is open it does not: after a kill
nobody knows what it had written, and it is sent the whole run again.
"""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fewstep.run.recipe import Recipe
from fewstep.runtime import durable

FILE = "tracking.json"


@dataclass(frozen=True)
class Sent:
    """identity: what the run is called in trackers. steps: the last step of each tracker that has all up to it."""

    identity: str
    steps: Mapping[str, int]

    def without(self, names: Collection[str]) -> "Sent":
        return replace(self, steps={name: step for name, step in self.steps.items() if name not in names})

    def having(self, name: str, step: int) -> "Sent":
        return replace(self, steps={**self.steps, name: step})


def read_sent(folder: Path, recipe: Recipe) -> Sent:
    """What is known of the run in `folder`. A file that cannot be read counts as none: the run is another one then."""
    try:
        held = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Sent(str(held["identity"]), {str(name): int(step) for name, step in held["steps"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Sent(f"{recipe.name}-{secrets.token_hex(3)}", {})


def write_sent(folder: Path, sent: Sent) -> None:
    """
    Raises:
        EnvironmentRefused: it cannot be written.
    """
    durable.write_atomically(folder / FILE, json.dumps({"identity": sent.identity, "steps": dict(sent.steps)}) + "\n")
