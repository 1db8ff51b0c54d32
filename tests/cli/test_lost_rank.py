"""A run over several processes loses one: the others end with one clear line, and the same command goes on."""

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from fewstep.backbones.stock import QwenImage21Transformer2DModel
from fewstep.cli.commands.error_reporter import reports_error
from fewstep.train.checkpoint import load_checkpoint
from tests.cli.command_line import write_recipe
from tests.cli.processes import Command
from tests.cli.torchrun import free_port, started
from tests.train.runs import lines, whole_lines

WORLD = 2


def load_no_transformer() -> None:
    """Whoever gets the transformer from the first rank reads no weights of it."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the transformer was loaded")

    QwenImage21Transformer2DModel.from_pretrained = refused  # type: ignore[method-assign]


def sharded(file: str, run: Path) -> list[Command]:
    """The command as torchrun starts it, full copies, sharded."""
    return started(file, run, WORLD, lambda rank: load_no_transformer() if rank else None)


@pytest.fixture
def file(recipe: dict[str, Any], tmp_path: Path) -> str:
    recipe["run"] |= {"iterations": 12, "save_every_iterations": 3, "sample_every_iterations": 20, "sharding": "full"}
    recipe["student"] |= {"mode": "full"}
    recipe["critic"] |= {"mode": "full"}
    return write_recipe(recipe, tmp_path)


def test_a_rank_that_is_lost_ends_the_run_and_the_same_command_goes_on(file: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for run in (whole, broken):
        run.parent.mkdir()
    assert [command.wait() for command in sharded(file, whole)] == [0, 0]

    left, lost = sharded(file, broken)
    left.until(lambda: whole_lines(broken) >= 7)
    lost.kill()
    assert lost.wait() == -signal.SIGKILL
    assert left.wait() == 2, left.output
    assert "rank 0 of 2 lost another rank" in left.output
    last = max((broken / "checkpoints").glob("iteration-*/COMPLETE")).parent
    assert f"The same command goes on from {last}" in left.output

    again = sharded(file, broken)
    assert [command.wait() for command in again] == [0, 0], [command.output for command in again]
    assert "going on from" in again[0].output
    assert lines(whole) == lines(broken)
    (tensors, state), (its_tensors, its_state) = (
        load_checkpoint(r / "checkpoints" / "iteration-000012") for r in (whole, broken)
    )
    assert state == its_state
    for stem, named in tensors.items():
        assert named.keys() == its_tensors[stem].keys()
        assert all(value.equal(its_tensors[stem][name]) for name, value in named.items()), stem


def test_of_torchrun_s_processes_the_first_alone_reports_why_they_ended() -> None:
    assert reports_error({})
    port = free_port()
    environment = {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    agent = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    assert [reports_error(environment) for _ in range(3)] == [True, False, False]
    assert reports_error(environment | {"TORCHELASTIC_RESTART_COUNT": "1"})
    del agent
    assert reports_error({"TORCHELASTIC_USE_AGENT_STORE": "True"})
