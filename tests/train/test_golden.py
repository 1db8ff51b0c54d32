"""Golden traces: five iterations as they were when they were kept. A change that should not change numbers must not.

After one that should: python -m tests.train.test_golden, and say why in the change's message.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.train.build import build_dmd_step
from fewstep.train.plan import RunPlan
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Trainer
from tests.train.runs import lines, toy_trainer
from tests.train.tiny_model import batch, tiny

KEPT = Path(__file__).parent / "golden.json"


def toy(folder: Path) -> None:
    toy_trainer(folder, iterations=5, critic={"warmup_iterations": 1}).train()


def tiny_qwen_image_21(folder: Path) -> None:
    """The real transformer: T2I and edits in turn, guidance, adapters."""
    small = AdapterPlan(rank=4, alpha=8.0)
    student, critic = StudentPlan(adapter=small), CriticPlan(adapter=small, updates=1)
    spec = TeachersSpec.model_validate({"base": {"guidance": {"t2i": {"scale": 2.5, "keep_norm": True}}}})
    rng, run = NamedRNG(0), RunPlan(iterations=5)
    roles = build_roles(tiny(), RolesSpec(student, critic, spec, 5), rng)
    Trainer(
        folder, build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan(time_shift=2.0)), rng), batch, run
    ).train()


TRACES = {"toy": toy, "tiny-qwen-image-2.1": tiny_qwen_image_21}


def close(value: Any) -> Any:
    """Floats within what another CPU's rounding may do."""
    if isinstance(value, dict):
        return {name: close(inner) for name, inner in value.items()}
    return pytest.approx(value, rel=2e-3, abs=1e-7) if isinstance(value, float) else value


@pytest.mark.parametrize("name", TRACES)
def test_the_trace_is_as_it_was(name: str, tmp_path: Path) -> None:
    TRACES[name](tmp_path)
    kept = json.loads(KEPT.read_text())[name]
    assert lines(tmp_path) == [close(line) for line in kept]


if __name__ == "__main__":
    traces = {}
    for name, run in TRACES.items():
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))
            traces[name] = lines(Path(folder))
    KEPT.write_text(json.dumps(traces, indent=1) + "\n")
    sys.stdout.write(f"{KEPT} written\n")
