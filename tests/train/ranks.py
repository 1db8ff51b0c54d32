"""Runs over several ranks in the tests of this folder: gloo on the CPU, each rank a process of its own."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from fewstep.encode.batch import Batch
from fewstep.runtime.parallel import Ranks, process_group
from tests.processes import begin_child, forking
from tests.train.runs import ending, lines


def rank_batch(whole: Batch, ranks: Ranks) -> Batch:
    """A rank's samples, as the loader gives them."""
    return whole.micro_batches(ranks.world)[ranks.rank]


def _rank(rank: int, world: int, port: int, job: object, folder: Path, per_machine: int) -> None:
    begin_child()
    own = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    own["LOCAL_WORLD_SIZE"] = per_machine
    os.environ |= {name: str(value) for name, value in own.items()}
    with process_group("cpu") as ranks:
        job(folder, ranks)  # type: ignore[operator]


def on_ranks(world: int, job: object, folder: Path, per_machine: int | None = None) -> None:
    """job(folder, ranks) in `world` processes, `per_machine` of them on each machine (all of them, if not given)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with forking():  # a child that imports nothing starts at once
        mp.start_processes(_rank, (world, port, job, folder, per_machine or world), nprocs=world, start_method="fork")


def assert_alike(one: Path, other: Path) -> None:
    (tensors, state), (its_tensors, its_state) = ending(one), ending(other)
    for key in ("iteration", "turns", "tasks", "categories", "skipped"):
        assert state[key] == its_state[key]
    for stem, named in tensors.items():
        assert named.keys() == its_tensors[stem].keys() != set()
        for name, value in named.items():
            torch.testing.assert_close(its_tensors[stem][name], value, rtol=1e-5, atol=1e-6, msg=f"{stem} {name}")
    for line, its in zip(lines(one), lines(other), strict=True):
        assert {k: line[k] for k in ("phase", "iteration")} == {k: its[k] for k in ("phase", "iteration")}
        for name in ("critic_loss", "student_loss", "student_norm", "size"):
            if name in line:
                assert its[name] == pytest.approx(line[name], rel=1e-4)


def flat(named: dict[str, Tensor], moment: str = "") -> Tensor:
    return torch.cat([value.double().flatten() for name, value in sorted(named.items()) if name.endswith(moment)])


def relative_distance(one: Tensor, other: Tensor) -> float:
    """Their distance, in lengths of the first."""
    return float((one - other).norm() / one.norm())
