"""From lines of metrics.jsonl to figures by step."""

from pathlib import Path

from fewstep.run.tracking.figures_of import figures_by_step
from fewstep.run.tracking.jsonl_tail import JsonlTail


def test_figures_of_one_step_come_together() -> None:
    """Whichever phase they are of: an iteration counts from 0, an examination counts iterations that are done."""
    lines = [
        {"phase": "warm-up", "iteration": 0, "critic_loss": 9.0},
        {"phase": "examine", "iteration": 0, "score": 0.25},
        {
            "phase": "distil",
            "iteration": 0,
            "task": "edit",
            "critic_loss": 0.5,
            "seconds": {"data": 1},
            "gap": None,
        },
        {
            "phase": "event",
            "iteration": 0,
            "kind": "tint",
            "words": "it is red",
            "values": {"shift": 2},
            "answer": "warn",
        },
        {"phase": "event", "iteration": 0, "teacher": "mine", "task": "edit", "pull": 5.0, "answer": "warn"},
        {"phase": "examine", "iteration": 1, "score": 0.5},
    ]
    assert figures_by_step(lines) == {
        0: {"examine/score": 0.25},
        1: {
            "distil/critic_loss": 0.5,
            "distil/seconds/data": 1.0,
            "event/tint": 1.0,
            "event/tint/shift": 2.0,
            "event/pull/mine": 1.0,
            "event/pull/mine/pull": 5.0,
            "examine/score": 0.5,
        },
    }


def test_a_growing_file_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    tail = JsonlTail(file)
    assert tail.read() == []
    file.write_text('{"a": 1}\n{"a"')
    assert tail.read() == [{"a": 1}]
    with file.open("a") as more:
        more.write(': 2}\n{"cut\x18\n{"a": 3}\n')
    assert tail.read() == [{"a": 2}, {"a": 3}]
    assert tail.read() == []
