"""What of the untrained start stays in the student that ships."""

import json
from pathlib import Path

import pytest

from tests.reporters import Recorded
from tests.train.runs import toy_trainer


def test_a_run_says_what_ships(tmp_path: Path) -> None:
    said = Recorded()
    toy_trainer(tmp_path, hooks={"reporter": said}).train()
    assert any("student.ema 0.9), with nothing of the untrained start" in line for _, line in said.said)


def test_a_run_of_before_the_warm_up_goes_on_without_one_and_is_told(tmp_path: Path) -> None:
    toy_trainer(tmp_path, iterations=2).train()
    state = tmp_path / "checkpoints" / "iteration-000002" / "state.json"
    held = json.loads(state.read_text())
    assert held["average"]["start_share"] == 0
    del held["average"]
    place = state.parent
    (place / "hashes.json").unlink()
    state.write_text(json.dumps(held))
    sizes = {file.name: file.stat().st_size for file in place.iterdir() if file.name != "COMPLETE"}
    (place / "COMPLETE").write_text(json.dumps(sizes))
    said = Recorded()
    trainer = toy_trainer(tmp_path, iterations=6, hooks={"reporter": said})
    trainer.train()
    assert trainer.step.optimizers.ema.start_share == pytest.approx(0.9**6)
    assert any("has no warm-up" in line and "53%" in line and "--weights raw" in line for _, line in said.said)
