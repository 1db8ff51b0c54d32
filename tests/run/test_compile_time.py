"""What a run with compiled blocks says of its first iterations."""

from fewstep.run.compile_time import tell_compilation
from tests.reporters import Recorded


def test_the_first_iteration_of_each_task_is_told() -> None:
    said, seen = Recorded(), []
    on_iteration = tell_compilation(said, lambda i, line: seen.append(i) or ("stop" if i == 3 else None))  # type: ignore[func-returns-value]
    lines = [{"task": task, "seconds": {"iteration": 150.4}} for task in ("t2i", "t2i", "edit", "edit")]
    answers = [on_iteration(i + 7, line) if i < 3 else on_iteration(3, line) for i, line in enumerate(lines)]
    assert [text for _, text in said.said] == [
        "iteration 7, the first of t2i since the start, took 150 s: blocks were compiled",
        "iteration 9, the first of edit since the start, took 150 s: blocks were compiled",
    ]
    assert seen == [7, 8, 9, 3]
    assert answers == [None, None, None, "stop"]


def test_nobody_need_be_asked_further() -> None:
    assert tell_compilation(Recorded(), None)(0, {"task": "t2i", "seconds": {"iteration": 1.0}}) is None
