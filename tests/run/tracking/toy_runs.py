"""A tracked run on a Gaussian world, and what its trackers hold, read with their own packages."""

import json
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.run.folder import RunDir
from fewstep.run.recipe import load_recipe
from fewstep.run.tracking.run_tracking import RunTracking
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.train.hooks import OnIteration
from fewstep.train.trainer import Outcome
from tests.processes import child_process, wait_until
from tests.train.runs import examined, toy_trainer

ITERATIONS = 6  # it saves after every second one, examines too, and draws after every third one
Held = dict[str, list[int]]  # the steps of each figure or picture, as often as they are there


def tracked_run(
    folder: Path, track: Sequence[str], reporter: Reporter = SILENT, then: OnIteration | None = None
) -> Outcome:
    """Begins the run, or goes on with it."""
    run = RunDir.open_or_create(folder, load_recipe("pocket", {"name": "toy", "track": list(track)}))

    def draw(done: int) -> None:
        for path in (f"iteration-{done:06d}.png", f"pictures/student-{done:06d}-00.png"):
            (run.samples / path).parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (done, 0, 0)).save(run.samples / path)

    with run, RunTracking(run, reporter) as tracking:
        trainer = toy_trainer(folder, hooks={"render": draw, "on_iteration": tracking.after(then)})
        trainer.hooks = replace(trainer.hooks, examine=examined(trainer))
        return trainer.train()


def killed_after_iteration_4(folder: Path, track: Sequence[str]) -> None:
    """Begins the run in a child process, which is killed with SIGKILL. The last checkpoint is of four iterations."""
    reached = folder.parent / "reached"

    def wait(i: int, line: object) -> None:
        if i == 4:
            reached.touch()
            time.sleep(60)

    with child_process(lambda: tracked_run(folder, track, then=wait)):
        wait_until(reached.exists)


def in_tensorboard(folder: Path) -> Held:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "images": 0, "tensors": 0}  # 4 pictures would be kept otherwise
    events = EventAccumulator(str(folder / "tensorboard"), everything)
    events.Reload()
    held = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return held | {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def in_trackio(folder: Path) -> Held:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    name = identity(folder)
    (record,) = [run for run in trackio.Api().runs("fewstep") if run.name == name]
    assert record.config is not None
    assert record.config["name"] == "toy"
    held: Held = defaultdict(list)
    for row in SQLiteStorage.get_logs("fewstep", name, run_id=record.id):
        for key in row.keys() - {"step", "timestamp"}:
            held[key].append(row["step"])
    return dict(held)


def in_wandb(folder: Path) -> Held:
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = (folder / "wandb").glob(f"offline-run-*-{identity(folder)}/*.wandb")
    held: Held = defaultdict(list)
    for each in _leveldb_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(each)
        if record.WhichOneof("record_type") == "run" and record.run.run_id:
            assert record.run.display_name == "toy"
        for name in {item.key or item.nested_key[0] for item in record.history.item}:
            if not name.startswith("_"):
                held[name].append(record.history.step.num)
    return dict(held)


def _leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KB, chunks with a header of checksum, length and kind."""
    at, parts = 7, b""  # wandb's own header
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last chunk
            yield parts
            parts = b""


def identity(folder: Path) -> str:
    return str(json.loads((folder / "tracking.json").read_text())["identity"])


def expected(folder: Path) -> dict[str, Any]:
    """What trackers should hold, from the run's records."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line["iteration"] + 1 for line in lines if line["phase"] == "distil"]
    assert steps == list(range(1, ITERATIONS + 1))
    return {
        "distil/critic_loss": steps,
        "distil/seconds/iteration": steps,
        "examine/size": [line["iteration"] for line in lines if line["phase"] == "examine"],
        "samples/sheet": [0, 3, 6],
        "samples/student-00": [0, 3, 6],
    }
