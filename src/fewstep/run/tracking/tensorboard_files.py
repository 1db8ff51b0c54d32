"""TensorBoard: event files in `tensorboard/` of the run folder. Needs the extra `tensorboard`."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.pictures import open_picture
from fewstep.run.tracking.tracker import TrackedRun

FOLDER = "tensorboard"
FLUSH_S = 10  # a TensorBoard that is open shows new figures after so many seconds


class TensorBoardFiles:
    """writer: a `torch.utils.tensorboard.SummaryWriter`."""

    def __init__(self, writer: Any):
        self.writer = writer

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        for name, file in files.items():
            pixels = np.asarray(open_picture(file, str(file)).convert("RGB"))
            self.writer.add_image(name, pixels, step, dataformats="HWC")


@contextmanager
def tensorboard_files(run: TrackedRun) -> Iterator[TensorBoardFiles]:
    """Begun anew, the event files of earlier starts are deleted. A TensorBoard that is open has read them already: it
    drops their steps when it reads `purge_step`."""
    folder = run.folder / FOLDER
    earlier = list(folder.glob("events.out.tfevents.*")) if run.anew else []
    for file in earlier:
        file.unlink()
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(
        str(folder), purge_step=0 if earlier else None, flush_secs=FLUSH_S
    )
    try:
        if run.anew:
            writer.add_text("recipe", f"```yaml\n{run.recipe.resolved_yaml()}```", 0)
        run.reporter.say(f"tracked in {folder}: tensorboard --logdir {run.folder.parent}")
        yield TensorBoardFiles(writer)
    finally:
        writer.close()
