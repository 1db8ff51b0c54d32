"""Where an iteration's time goes: by part, and by operation, on the pocket or on a larger transformer.

Parts are those of metrics.jsonl, with forward, backward and optimiser of each learner apart; processor
seconds, for CPUs.

python benchmarks/iteration_parts.py [--batch 16] [--iterations 8] [--wide] [--operations]
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import process_time

import torch
from savings import SIZE, batch_of, made

from fewstep.backbones.families import load_backbone
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.runtime.allocator import keep_freed_memory
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import StepTimer, to_host

WIDE = {"num_layers": 8, "num_attention_heads": 8, "attention_head_dim": 64, "axes_dims_rope": (16, 24, 24)}


class Seconds(StepTimer):
    """Processor seconds, of parts within parts too: what is inside is taken off what is around it."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._open: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        begun = process_time()
        self._open.append(0.0)
        yield
        whole = process_time() - begun
        self.spent[name] += whole - self._open.pop()
        if self._open:
            self._open[-1] += whole


def watched(step: DMDStep) -> DMDStep:
    """The same step, its learners' updates timed apart."""
    timer = Seconds()
    for name, role_optimizer in (("student", step.optimizers.student), ("critic", step.optimizers.critic)):
        _timed(timer, role_optimizer, "backward", f"{name} backward")
        _timed(timer, role_optimizer.optimizer, "step", f"{name} optimiser")
    _timed(timer, step.optimizers.ema, "update", "average")
    return replace(step, timer=timer)


def _timed(timer: Seconds, owner: object, name: str, part: str) -> None:
    inner = getattr(owner, name)

    def timed(*given: object, **named: object) -> object:
        with timer.part(part):
            return inner(*given, **named)

    setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--wide", action="store_true", help="512 wide, 8 blocks, random weights")
    parser.add_argument("--operations", action="store_true", help="the operations that took longest")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    backbone = load_backbone("pocket", dtype=torch.bfloat16)
    for task in ("t2i", "edit"):
        step = made("pocket", [], transformer=wider(backbone) if options.wide else None)
        batch, step = batch_of(backbone, task, options.batch), watched(step)
        to_host(step.iterate(0, 1, batch))
        assert isinstance(step.timer, Seconds)
        step.timer.spent.clear()
        begun = process_time()
        for i in range(options.iterations):
            to_host(step.iterate(i, 1 + i % 3, batch))
        total = process_time() - begun
        tokens = batch.cond.text_BLC.shape[1], batch.cond.layout.reference_tokens, batch.cond.layout.target_tokens
        print(f"{'wide' if options.wide else 'pocket'}, {task}, {tokens} text, reference, target tokens, {SIZE} px: "
              f"{1e3 * total / options.iterations:.0f} ms an iteration")  # fmt: skip
        spent = dict(step.timer.spent)
        spent["rest"] = total - sum(spent.values())
        for name, seconds in sorted(spent.items(), key=lambda one: -one[1]):
            print(f"  {name:20} {1e3 * seconds / options.iterations:7.1f} ms  {100 * seconds / total:5.1f} %")
    if options.operations:
        with torch.profiler.profile() as found:
            step.iterate(0, 1, batch)
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


def wider(backbone: object) -> QwenImage21:
    assert isinstance(backbone, QwenImage21)
    config = dict(backbone.transformer.config) | WIDE  # type: ignore[attr-defined]
    return QwenImage21.random(config, dtype=torch.float32)


if __name__ == "__main__":
    main()
