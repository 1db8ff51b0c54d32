"""One iteration of the 7 B configuration at full size, random weights: seconds, peak memory, share of the matmul rate.

Text to image and edits (one reference) at 1024 x 1024 px, LoRA of rank 64; batch 1, then twice
as many until memory ends. MFU: the iteration's matmul FLOPs (counted by torch) over what a plain bf16 matmul reaches on
the same device in the same process. No weights, no text encoder, no network needed.

python benchmarks/full_size.py [--updates 2] [--rank 64] [--no-checkpointing] [--compile] [--forward-once]
                               [--int8]
python benchmarks/full_size.py --tiny      the same code on a small twin, on a CPU: that it runs, nothing more
"""

import argparse
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from fewstep.backbones.int8 import to_int8
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.conditioning import Conditioning, Layout
from fewstep.encode.loader import Batch
from fewstep.flow.noise import Draw
from fewstep.objective.plan import ObjectivePlan
from fewstep.roles.assemble import assemble
from fewstep.roles.plan import AdapterPlan, CriticPlan, StudentPlan, TeachersSpec
from fewstep.train.average import Average
from fewstep.train.distill import Method
from fewstep.train.learner import Learner
from fewstep.train.watch import Clock, read

TINY = {
    "in_channels": 8, "out_channels": 8, "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32,
    "context_in_dim": 32, "axes_dims_rope": (8, 12, 12),
}  # fmt: skip
WORDS, DRAW = 128, Draw(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--updates", type=int, default=2, help="of the critic, for one of the student")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true", help="run.compile")
    parser.add_argument("--forward-once", action="store_true", help="student.forward_once")
    parser.add_argument("--int8", action="store_true", help="run.base_weights: int8")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("the full size needs a GPU; --tiny runs the same code on a CPU")
    device = torch.device("cpu" if options.tiny else "cuda")
    side = 64 if options.tiny else options.side
    method = made(options, device)
    peak_rate = matmul_rate(device, 512 if options.tiny else 8192)
    weights = sum(p.numel() for p in method.cast.student.transformer.parameters())
    ratio = f"rank {options.rank}, critic {options.updates} : 1"
    print(f"{weights / 1e9:.3f} B weights, {ratio}, bf16 matmul {peak_rate / 1e12:.3f} TFLOP/s on {device}")
    for task in ("t2i", "edit"):
        size = 1
        while size <= (2 if options.tiny else 64):
            try:
                measured(method, batch_of(method, task, size, side, device), device, peak_rate)
            except torch.OutOfMemoryError:
                print(f"{task}, batch {size}: more than the device holds")
                torch.cuda.empty_cache()
                break
            size *= 2


def made(options: argparse.Namespace, device: torch.device) -> Method:
    torch.manual_seed(0)
    small = AdapterPlan(rank=options.rank, alpha=options.rank)
    student = StudentPlan(adapter=small, forward_once=options.forward_once)
    critic = CriticPlan(adapter=small, updates=options.updates)
    backbone = QwenImage21.random(TINY if options.tiny else {}, {"shift": 1.0}, torch.bfloat16, device)
    if options.int8:
        to_int8(backbone.transformer)
    cast = assemble(
        backbone, student, critic, TeachersSpec(), iterations=1000, draw=DRAW, precision="bf16",
        gradient_checkpointing="off" if options.no_checkpointing else "full", compile=options.compile,
    )  # fmt: skip
    learners = Learner(cast.student, student), Learner(cast.critic, critic)
    return Method(
        cast, student, critic, ObjectivePlan(), DRAW, *learners, Average(cast.student, student.ema), Clock(device)
    )


def batch_of(method: Method, task: str, size: int, side: int, device: torch.device) -> Batch:
    """Random text, and a reference of the target's size for an edit."""
    backbone = method.cast.student.backbone
    grid = backbone.layout_grid((side, side))
    edit = task == "edit"
    layout = Layout("edit", grid, (grid,), (WORDS // 2,)) if edit else Layout("t2i", grid)
    width = backbone.transformer.config.context_in_dim  # type: ignore[union-attr]
    text_BLC = DRAW.normal((size, WORDS, width), "text")
    latents = DRAW.normal((size, layout.reference_tokens, backbone.latent_channels), "reference") if edit else None
    cond = Conditioning(text_BLC, torch.ones(size, WORDS, dtype=torch.bool), layout, latents).to(device, torch.bfloat16)
    return Batch(0, layout.task, cond, {}, tuple(range(size)), ("any",) * size, ("case",) * size)


def measured(method: Method, batch: Batch, device: torch.device, peak_rate: float) -> None:
    """One iteration counted, without compiled blocks, whose operations cannot be; one to warm up; three timed."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counted:
        read(method.iterate(0, 1, batch))
    read(method.iterate(0, 1, batch))
    seconds = []
    for i in range(3):
        begun = time.perf_counter()
        read(method.iterate(i + 1, 1, batch))  # waits for the device
        seconds.append(time.perf_counter() - begun)
    flops, least = counted.get_total_flops(), min(seconds)
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB peak, " if device.type == "cuda" else ""
    print(
        f"{batch.task}, batch {len(batch.samples)}, exit step 1: {least:.2f} s per student update (median "
        f"{sorted(seconds)[1]:.2f}), {peak}{flops / 1e12:.4g} TFLOP, MFU {100 * flops / least / peak_rate:.1f} %"
    )


def matmul_rate(device: torch.device, side: int) -> float:
    """FLOP/s of a plain bf16 matmul, the best of five."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


if __name__ == "__main__":
    main()
