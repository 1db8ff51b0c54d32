"""What only a GPU can show: the figures are the CPU's, the loop waits for nothing, and a whole run goes through."""

import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewstep.backbones.base_weights import has_units
from fewstep.backbones.fp8 import FP8
from fewstep.backbones.int8 import INT8
from fewstep.backbones.rounded_linear import NumberFormat, RoundedLinear, round_blocks
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.runtime.task import Task
from fewstep.sample.pictures import generate_pictures, load_student
from tests.train.tiny_model import ALL_EXTRA_LOSSES, CPU, batch, tiny, tiny_dmd_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
TASKS: tuple[Task, ...] = ("t2i", "edit")


def on(device: torch.device, given: Batch) -> Batch:
    negatives = {prompt: cond.to(device) for prompt, cond in given.negatives.items()}
    return replace(given, cond=given.cond.to(device), negatives=negatives)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_velocities_are_the_cpus(task: Task, cached: bool) -> None:
    z_BND, t_B, velocities = NamedRNG(1).normal((2, 4, 8), "z"), torch.tensor([0.3, 0.8]), []
    for device in (CPU, GPU):
        backbone, cond = tiny(device=device), on(device, batch(task=task)).cond
        with torch.no_grad():
            prefix = backbone.prefix(backbone.transformer, cond) if cached else None
            v_BND = backbone.velocity(backbone.transformer, z_BND.to(device), t_B.to(device), cond, prefix)
            velocities.append(v_BND.cpu())
    torch.testing.assert_close(*velocities, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_an_iteration_is_the_cpus(task: Task) -> None:
    """All extra losses and guidance; random numbers are made on the CPU, so they are the same."""
    here, there = (
        tiny_dmd_step(ALL_EXTRA_LOSSES, device=device).iterate(1, 2, on(device, batch(size=3, task=task)))
        for device in (CPU, GPU)
    )
    assert here.keys() == there.keys()
    for name, value in here.items():
        assert there[name].item() == pytest.approx(value.item(), rel=2e-3, abs=1e-5), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", TASKS)
def test_the_host_waits_for_nothing_in_the_hot_loop(task: Task, precision: str) -> None:
    """What `benchmarks/host_reads.py` counts on a CPU, measured by CUDA itself."""
    made, given = tiny_dmd_step(ALL_EXTRA_LOSSES, device=GPU, precision=precision), on(GPU, batch(size=3, task=task))
    made.iterate(0, 0, given)  # layouts are made at their first sight, on the host
    with warnings.catch_warnings():  # that the mode is a prototype and does not see everything
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        made.iterate(1, 2, given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_base_in_bytes_answers_as_on_the_cpu() -> None:
    """Rounded on the GPU, then taken to the CPU: rounded there, a quotient a hair off could fall to the other side."""
    backbone, z_BND, t_B, velocities = (
        tiny(device=GPU),
        NamedRNG(1).normal((2, 4, 8), "z"),
        torch.tensor([0.3, 0.8]),
        [],
    )
    round_blocks(backbone.transformer, INT8)
    for device in (GPU, CPU):
        cond = on(device, batch(task="t2i")).cond
        with torch.no_grad():
            v_BND = backbone.velocity(backbone.transformer.to(device), z_BND.to(device), t_B.to(device), cond)
        velocities.append(v_BND.cpu())
    torch.testing.assert_close(*velocities, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("numbers", [INT8, FP8], ids=["int8", "fp8"])
def test_products_in_8_bits_are_the_cpus(numbers: NumberFormat) -> None:
    """Forward and backward, by the GPU's own kernels. Rounded on either device, a number a hair off may fall to the
    other side."""
    if numbers is FP8 and not has_units(torch.cuda.get_device_capability(), "fp8-w8a8"):
        pytest.skip("needs fp8 units")
    layer = RoundedLinear(torch.nn.Linear(96, 64).requires_grad_(False), numbers, least_rows=1)
    rng, found = NamedRNG(0), []
    for device in (CPU, GPU):
        x = rng.normal((40, 96), "x").to(device, torch.bfloat16).requires_grad_()
        y = layer.to(device)(x)
        y.backward(rng.normal((40, 64), "g").to(device, torch.bfloat16))
        assert x.grad is not None
        found.append((y.detach().cpu().float(), x.grad.cpu().float()))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() < 0.005 * theirs.norm()


def test_a_run_goes_through_goes_on_and_its_student_samples(tmp_path: Path) -> None:
    """`fewstep distill pocket` on the GPU, bf16; then without its last checkpoint and its student: the same command
    trains what is missing, to figures that are the same up to the order of sums."""
    run = tmp_path / "run"
    few = {"iterations": 4, "save_every_iterations": 2, "examine_every_iterations": 4, "sample_every_iterations": 4}
    keys = {f"run.{key}": value for key, value in few.items()} | {"run.device": "cuda"}
    keys |= {f"data.{task}.0.source": f"pocket:{task}:24" for task in TASKS}
    words = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "fewstep", "distill", "pocket", "--out", str(run), *words]
    figures = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        figures.append([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()])
        drawn = generate_pictures(load_student(run / "student", device=GPU), ["a red house"], size=(64, 64))
        assert len(drawn[0].getcolors(64 * 64) or ()) > 50  # a picture, and no flat colour
        if len(figures) == 1:
            shutil.rmtree(run / "checkpoints" / "iteration-000004")
            shutil.rmtree(run / "student")
    once, again = ([line for line in lines if line["phase"] == "distil"] for lines in figures)
    assert len(once) == 4
    assert all(0 < line["gpu_peak_gb"] < 80 for line in once)
    for line, its_line in zip(once, again, strict=True):
        for name in ("gap", "critic_loss"):
            assert line[name] == pytest.approx(its_line[name], rel=0.05)
