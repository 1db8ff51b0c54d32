"""Seconds and memory of the settings that `run.gradient_checkpointing: auto` chooses from, in turns, in one process.

A transformer of 512 channels and 8 blocks with random weights, at 512 x 512 px (1,024 latent tokens), as adapters. A
setting is what is computed again and the number of parts of a batch. Seconds are the process's own processor seconds of
a whole iteration with --updates of the critic, two forwards of the teacher, and the rollout. --compiled adds two more
settings inside compiled blocks: selective, and nothing computed again.

PYTHONPATH=.:src python benchmarks/recomputation.py [--batch 2] [--rounds 2] [--side 512] [--task t2i] [--updates 1]
    [--precision bf16] [--compiled]
"""

import argparse
import statistics
import time

import torch
from iteration_parts import wider
from savings import batch_of, made

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.families import load_backbone
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.recomputation import Recomputation
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.task import TASKS
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import to_host

KEYS = ["objective.first_step_anchor=null", "objective.segment_guidance=null"]
WARM = 2  # rounds that are not counted; compiled blocks are made for one size, then for all
Setting = tuple[Recomputation, int, bool]  # what is computed again, parts of a batch, compiled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--task", default="t2i", choices=TASKS)
    parser.add_argument("--updates", type=int, default=1)
    parser.add_argument("--precision", default="bf16", choices=sorted(PRECISIONS))
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    keys = [*KEYS, f"run.precision={options.precision}", f"critic.updates={options.updates}"]
    backbone = load_backbone("pocket", dtype=torch.bfloat16)
    batch = batch_of(backbone, options.task, options.batch, (options.side, options.side))
    settings: list[Setting] = [("full", 1, False), ("selective", 1, False), ("off", options.batch, False)]
    settings += [("selective", 1, True), ("off", options.batch, True)] if options.compiled else []
    steps = {setting: _step(keys, wider(backbone), setting) for setting in settings}
    tokens = batch.cond.text_BLC.shape[1] + batch.cond.layout.reference_tokens + batch.cond.layout.target_tokens
    print(f"{options.task}, batch {options.batch}, {tokens} tokens, {torch.get_num_threads()} thread(s)", flush=True)
    seconds: dict[Setting, list[float]] = {setting: [] for setting in settings}
    for number in range(-WARM, options.rounds):
        for setting, step in steps.items():
            begun_s = time.process_time()
            to_host(step.iterate(max(0, number), 2, *batch.micro_batches(setting[1])))
            if number >= 0:
                seconds[setting].append(time.process_time() - begun_s)
    whole = seconds[settings[0]]
    for (how, parts, compiled), taken in seconds.items():
        pairs = statistics.median(a / b for a, b in zip(taken, whole, strict=True))
        print(
            f"{how:9} in {parts} part(s){', compiled' if compiled else ''}: {min(taken):.1f} s (median "
            f"{statistics.median(taken):.1f}); to full: {min(taken) / min(whole):.2f} (minima), {pairs:.2f} (median of "
            "pairs)"
        )


def _step(keys: list[str], transformer: Backbone, setting: Setting) -> DMDStep:
    torch.manual_seed(0)
    how, _, compiled = setting
    step = made("pocket", keys, transformer=transformer)
    for network in (step.roles.student, step.roles.critic):
        network.recompute_as(dict.fromkeys(TASKS, how))
    for network in step.roles.networks if compiled else ():
        compile_blocks(network.transformer)
    return step


if __name__ == "__main__":
    main()
