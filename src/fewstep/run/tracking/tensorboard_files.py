"""TensorBoard: event files in `tensorboard/` of the run folder. Needs the extra `tensorboard`."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.run.tracking.tracker import TrackedRun

FOLDER = "tensorboard"
FLUSH_S = 10  # a TensorBoard that is open shows new figures after so many seconds


class TensorBoardFiles:
    """writer: a `torch.utils.tensorboard.SummaryWriter`. summary: TensorBoard's protobuf `Summary`."""

    def __init__(self, writer: Any, summary: Any):
        self.writer, self.summary = writer, summary

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """The files as they are: `SummaryWriter.add_image` encodes them again, half a second a megapixel."""
        for name, file in files.items():
            with Image.open(file) as picture:
                width, height = picture.size
            encoded = self.summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes()
            )
            self.writer.file_writer.add_summary(self.summary(value=[self.summary.Value(tag=name, image=encoded)]), step)


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
        yield TensorBoardFiles(writer, importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary)
    finally:
        writer.close()
