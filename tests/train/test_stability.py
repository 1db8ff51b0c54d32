"""A run whose loss or gradients leave their level says so in one line, and in another when they are back."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.encode.batch import Batch
from fewstep.roles.plan import AdapterPlan, StudentPlan
from fewstep.run.self_exam.pages import event_words
from fewstep.run.studio.run_state import RunState, health
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.reporter import SILENT
from fewstep.train.stability import LEAST, QUIET, WINDOW, StabilityChange, StabilityWatch
from fewstep.train.tell_stability import StabilityTeller
from fewstep.train.trainer import Trainer
from tests.reporters import Recorded
from tests.train.ranks import on_ranks, rank_batch
from tests.train.runs import assert_same_run, ending, lines, toy_trainer

CALM: dict[str, Any] = {"task": "t2i", "critic_loss": 0.2, "critic_norm": 0.1, "student_norm": 0.1}
FIGURES = ("critic_loss", "critic_norm", "student_norm")
# What a pocket run with targets `all` wrote from its iteration 102 on (docs/lab/adapters.md).
BLOW_UP = [
    (0.373, 0.128, 0.093),
    (1.338, 2.162, 1.628),
    (26.20, 369.6, 0.933),
    (3.216, 6.544, 9.935),
    (1.923, 6.420, 2.338),
    (0.878, 1.257, 0.257),
    (0.518, 0.702, 0.538),
    (0.335, 0.291, 0.242),
    (0.265, 0.218, 0.076),
    (0.184, 0.115, 0.126),
    (0.228, 0.171, 0.261),
    (0.193, 0.138, 0.275),
]


def blown(row: tuple[float, ...]) -> Mapping[str, Any]:
    return {"task": "t2i", **dict(zip(FIGURES, row, strict=True))}


def followed(series: list[Mapping[str, Any]], watch: StabilityWatch | None = None) -> list[tuple[int, StabilityChange]]:
    watch = watch or StabilityWatch()
    told = [(i, watch.add(i, figures)) for i, figures in enumerate(series)]
    return [(i, change) for i, change in told if change is not None]


def test_a_blow_up_is_told_once_and_its_end_once() -> None:
    series = [CALM] * 102 + [blown(row) for row in BLOW_UP] + [CALM] * 50
    (at, up), (ended, down) = followed(series)
    assert (at, up.unstable, up.since) == (104, True, 103)
    assert up.worst["critic_loss"].times == pytest.approx(26.2 / 0.2)
    assert (ended, down.unstable, down.since) == (109 + QUIET - 1, False, 109)
    assert {name: excess.iteration for name, excess in down.worst.items()} == {
        "critic_loss": 104,
        "critic_norm": 104,
        "student_norm": 105,
    }


def test_single_values_and_slow_change_are_healthy() -> None:
    lone = [CALM | {"critic_norm": 5.0 if i % 7 == 0 else 0.1} for i in range(300)]
    assert followed(lone) == []
    slow = [CALM | {"critic_loss": 0.2 * 1.01**i} for i in range(400)]  # fifty times as large at the end
    assert followed(slow) == []


def test_a_rise_that_lasts_does_not_become_the_level() -> None:
    series = [CALM] * 40 + [CALM | {"critic_loss": 2.0}] * (3 * WINDOW)
    assert [(at, change.unstable, change.since) for at, change in followed(series)] == [(41, True, 40)]


@pytest.mark.parametrize("every", [2, 5, 40])
def test_tasks_of_other_levels_are_no_rise_however_they_follow(every: int) -> None:
    """Two edits in a row, every so many pairs, at ten times the loss of T2I. A rise of edits is told."""
    edit = CALM | {"task": "edit", "critic_loss": 2.0, "critic_norm": 1.0}
    series = [edit if i // 2 % every == 0 else CALM for i in range(40 * every)]
    assert followed(series) == []
    ((at, change),) = followed([*series, *[edit | {"critic_loss": 8.0}] * 2])
    assert (at, change.worst["critic_loss"].times) == (len(series) + 1, pytest.approx(4))


def test_nothing_is_told_before_there_is_a_level_and_of_a_level_of_zero() -> None:
    assert followed([CALM] * (LEAST - 1) + [CALM | {"critic_loss": 9.0}] * 2) == []
    silent = CALM | {"student_norm": 0.0}
    assert followed([silent] * 60 + [CALM] * 9) == []


def test_what_is_not_finite_is_beyond_any_level() -> None:
    ((_, change),) = followed([CALM] * 30 + [CALM | {"critic_loss": None}] * 3)
    assert change.worst["critic_loss"].value is None


@pytest.mark.parametrize("cut", range(98, 120))
def test_a_watch_made_of_records_is_the_one_that_saw_them(cut: int) -> None:
    series = [CALM] * 102 + [blown(row) for row in BLOW_UP] + [CALM] * 10
    whole = [change for at, change in followed(series) if at >= cut]
    resumed = StabilityWatch()
    resumed.replay([{"phase": "warm-up", "iteration": 0, "critic_loss": 99.0}])
    resumed.replay({"phase": "distil", "iteration": i, **figures} for i, figures in enumerate(series[:cut]))
    rest = (resumed.add(i, figures) for i, figures in enumerate(series[cut:], cut))
    assert [change for change in rest if change is not None] == whole


# ---- in a run

HIT = 30  # the iteration in which the critic is thrown off
PLAIN = {"sample_every_iterations": 0, "examine_every_iterations": 0, "save_every_iterations": 14}


def thrown(folder: Path, reporter: Recorded, iterations: int = 48, ranks: Ranks = SINGLE_RANK) -> Trainer:
    """A run whose critic is thrown off its weights once, and learns them again."""
    trainer = toy_trainer(folder, iterations=iterations, ranks=ranks, hooks={"reporter": reporter}, **PLAIN)
    plain = trainer.batch

    def batch(i: int) -> Batch:
        if i == HIT:
            with torch.no_grad():
                trainer.roles.critic.transformer.mean_ND.add_(0.9)
        return rank_batch(plain(i), ranks)

    trainer.batch = batch
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorded]:
    folder, reporter = tmp_path_factory.mktemp("whole"), Recorded()
    thrown(folder, reporter).train()
    return folder, reporter


def events(folder: Path) -> list[dict[str, Any]]:
    return [line for line in lines(folder) if line["phase"] == "event"]


def test_a_run_says_what_has_left_its_level_since_when_and_what_helps(whole: tuple[Path, Recorded]) -> None:
    folder, reporter = whole
    up, down = events(folder)
    (warned,) = [text for kind, text in reporter.said if kind == "warning"]
    assert warned == f"after 32 iterations: unstable: {up['words']}"
    assert up["words"].startswith(
        f"since iteration {HIT} the critic's loss is 3.84, 20 times its usual 0.189, the norm"
    )
    assert "--fork RUN@28 while that is kept, with lower rates, --set critic.learning_rate=0.01 " in up["words"]
    assert (up["iteration"], up["answer"], down["answer"]) == (31, "warn", "none")
    assert ("note", f"after {down['iteration'] + 1} iterations: stable again: {down['words']}") in reporter.said
    assert "the critic's loss was up to 20 times that (iteration 31)" in down["words"]
    assert event_words(up) == f"After 32 iterations: unstable: {up['words']}. Answer: warn."
    assert event_words(down).endswith("are better.")


def test_the_studios_lamp_is_lit_by_the_rise_and_not_by_the_end_of_it(whole: tuple[Path, Recorded]) -> None:
    up, down = events(whole[0])
    now = RunState("training", "", down["iteration"] + 1, 64, 1.0, 1.0, None, None, None)
    soon = replace(now, iteration=up["iteration"] + 1)
    assert (health(soon, [up], None), health(now, [down], None)) == ("watch", "good")


@pytest.mark.parametrize("stop", [32, 36, 44])
def test_a_run_stopped_in_the_midst_of_it_tells_the_same_and_once(
    whole: tuple[Path, Recorded], tmp_path: Path, stop: int
) -> None:
    thrown(tmp_path, Recorded(), stop).train()
    resumed = Recorded()
    thrown(tmp_path, resumed).train()
    assert_same_run(whole[0], tmp_path)
    assert "warning" not in [kind for kind, _ in resumed.said]
    assert len(events(tmp_path)) == 2


def test_watching_changes_no_bit(whole: tuple[Path, Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = thrown(tmp_path, Recorded())
    monkeypatch.setattr(blind.stability, "look", lambda i, line: None)
    blind.train()
    assert (len(events(whole[0])), len(events(tmp_path))) == (2, 0)
    (tensors, state), (its_tensors, its_state) = ending(whole[0]), ending(tmp_path)
    assert state == its_state
    for stem, named in tensors.items():
        assert all(torch.equal(value, its_tensors[stem][name]) for name, value in named.items())


def _on_a_rank(folder: Path, ranks: Ranks) -> None:
    reporter = Recorded()
    thrown(folder, reporter, 36, ranks).train()
    assert bool([text for kind, text in reporter.said if kind == "warning"]) == ranks.first


def test_over_ranks_the_first_one_tells_of_the_whole_batch(tmp_path: Path) -> None:
    thrown(tmp_path / "one", Recorded(), 36).train()
    on_ranks(2, _on_a_rank, tmp_path / "two")
    (one,), (two,) = events(tmp_path / "one"), events(tmp_path / "two")
    assert (two["iteration"], two["kind"]) == (one["iteration"], one["kind"]) == (31, "unstable")
    assert two["values"] == pytest.approx(one["values"], rel=1e-3)


def test_a_rise_that_targets_all_explains_says_so(tmp_path: Path) -> None:
    """And where no checkpoint from before is kept, no fork is advised."""
    trainer = thrown(tmp_path, Recorded(), 1)
    wide = StudentPlan(mode="adapter", adapter=AdapterPlan(rank=2, alpha=2.0, targets="all"))
    teller = StabilityTeller(replace(trainer.step.settings, student=wide), trainer.metrics, trainer.checkpoints, SILENT)
    for i in range(32):
        teller.look(i, CALM | {"student_norm": 5.0 if i >= 30 else 0.1})
    (told,) = events(tmp_path)
    assert (
        "begin anew with lower rates, --set student.learning_rate=0.0005 (now 0.001); or a new run with"
        in told["words"]
    )
    assert "student.adapter.targets=attention+mlp" in told["words"]
    assert "critic.learning_rate" not in told["words"]
