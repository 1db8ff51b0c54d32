"""Seconds and memory of the settings that `run.gradient_checkpointing: auto` chooses from, in turns, in one process.

A transformer of 512 channels and 8 blocks with random weights, at 512 x 512 px (1,024 latent tokens), as adapters. A
setting is what is computed again and the number of parts of a batch. Seconds are the process's own processor seconds of
a whole iteration with one update of the critic, two forwards of the teacher, and three steps of the rollout.

PYTHONPATH=.:src python benchmarks/recomputation.py [--batch 2] [--rounds 2] [--side 512] [--task t2i]
"""

import argparse
import statistics
import time

import torch
from iteration_parts import wider
from savings import batch_of, made

from fewstep.backbones.families import load_backbone
from fewstep.roles.recomputation import Recomputation
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.runtime.task import TASKS
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import to_host

KEYS = ["run.precision=bf16", "critic.updates=1", "objective.first_step_anchor=null"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--task", default="t2i", choices=TASKS)
    options = parser.parse_args()
    keep_freed_memory()
    backbone = load_backbone("pocket", dtype=torch.bfloat16)
    batch = batch_of(backbone, options.task, options.batch, (options.side, options.side))
    settings: dict[tuple[Recomputation, int], DMDStep] = {}
    for how, parts in (("full", 1), ("selective", 1), ("off", options.batch)):
        torch.manual_seed(0)
        step = made("pocket", KEYS, transformer=wider(backbone))
        for network in (step.roles.student, step.roles.critic):
            network.recompute_as(dict.fromkeys(TASKS, how))  # type: ignore[arg-type]
        settings[how, parts] = step  # type: ignore[index]
    tokens = batch.cond.text_BLC.shape[1] + batch.cond.layout.reference_tokens + batch.cond.layout.target_tokens
    print(f"{options.task}, batch {options.batch}, {tokens} tokens, {torch.get_num_threads()} thread(s)", flush=True)
    seconds: dict[tuple[Recomputation, int], list[float]] = {setting: [] for setting in settings}
    for number in range(options.rounds + 1):  # the first warms up
        for setting, step in settings.items():
            begun_s = time.process_time()
            to_host(step.iterate(number, 2, *batch.micro_batches(setting[1])))
            seconds[setting].append(time.process_time() - begun_s)
    whole = seconds["full", 1][1:]
    for (how, parts), (_, *taken) in seconds.items():
        pairs = statistics.median(a / b for a, b in zip(taken, whole, strict=True))
        print(
            f"{how:9} in {parts} part(s): {min(taken):.1f} s (median {statistics.median(taken):.1f}); to full: "
            f"{min(taken) / min(whole):.2f} (minima), {pairs:.2f} (median of pairs)"
        )


if __name__ == "__main__":
    main()
