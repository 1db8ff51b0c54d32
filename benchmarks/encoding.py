"""Edits encoded together against one at a time: seconds, and how far the conditionings and velocities are apart.

PYTHONPATH=.:src python benchmarks/encoding.py [--edits 2000] [--rounds 3] [--precision bf16] [--profile]

Both sides take turns in one process, on the pocket world's edits with their negative prompt, each round into a new
store.
Seconds are the process's own processor seconds. `--profile` says where the time of the new side goes. At the end, what
a run waits for its batches: of the pocket world, and of conditionings as large as those of Qwen-Image-2.1 at 1024 px.
"""

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.families import load_backbone
from fewstep.backbones.layout import Layout
from fewstep.data.cases import Case
from fewstep.data.mixture import Ratio
from fewstep.data.sources import read_source
from fewstep.data.streams import by_source
from fewstep.encode.encode import encode_cases, store_key
from fewstep.encode.loader import Loader
from fewstep.encode.store import ConditioningStore
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.task import Task
from tests.data.plain_order import unchanging

SIZE = (64, 64)
NEGATIVES: dict[Task, tuple[str, ...]] = {"edit": ("",)}
COMPARED = 64  # cases
LARGE = 96  # cases with conditionings of a real size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = load_backbone("pocket", dtype=PRECISIONS[options.precision])
    with TemporaryDirectory() as scratch:
        cases = read_source(f"pocket:edit:{options.edits}", "edit", Path(scratch))
        sides = {"one by one": False, "together": True}
        print(f"{options.edits} edits with one negative prompt, {options.precision}, {options.threads} thread(s)")
        taken: dict[str, list[float]] = {side: [] for side in sides}
        stores: dict[str, ConditioningStore] = {}
        for number in range(options.rounds):
            for side, together in sides.items():
                stores[side] = ConditioningStore(Path(scratch) / f"{side} {number}", "print")
                taken[side].append(_seconds(backbone, cases, stores[side], together))
        _report(taken, len(cases))
        _compare(backbone, cases[:COMPARED], stores)
        _loading("pocket", cases, stores["together"], batch=16, size=SIZE)
        large = ConditioningStore(Path(scratch) / "large", "print")
        _loading("Qwen-Image-2.1", _fill(large, cases[:LARGE]), large, batch=4, size=SIZE)
        if options.profile:
            _profile(backbone, cases, ConditioningStore(Path(scratch) / "profile", "print"))


def _seconds(backbone: Backbone, cases: Sequence[Case], store: ConditioningStore, together: bool) -> float:
    backbone.batches_edits = together  # type: ignore[misc]  # of this instance
    begun_s = time.process_time()
    encode_cases(backbone, cases, store, size=SIZE, negatives=NEGATIVES)
    return time.process_time() - begun_s


def _report(taken: dict[str, list[float]], edits: int) -> None:
    for side, seconds in taken.items():
        least, median = min(seconds), statistics.median(seconds)
        print(f"{side:10}  {least:6.2f} s (median {median:.2f}), {edits / least:.0f} edits a second")
    alone, together = taken.values()
    pairs = statistics.median(b / a for a, b in zip(alone, together, strict=True))
    print(f"together / one by one: {min(together) / min(alone):.3f} (minima), {pairs:.3f} (median of pairs)")


def _compare(backbone: Backbone, cases: Sequence[Case], stores: dict[str, ConditioningStore]) -> None:
    """How far both stores are apart, as shares of the conditionings' own size; and their velocities."""
    far: dict[str, float] = {"texts": 0.0, "latents": 0.0, "velocities": 0.0}
    equal = dict.fromkeys(far, 0)
    for case in cases:
        held = [store.load(store_key(case, case.prompt, store, SIZE)) for store in stores.values()]
        z_BND = torch.randn(1, *backbone.noise_shape(held[0].layout), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            v = [backbone.velocity(backbone.transformer, z_BND, torch.full((1,), 0.7), cond) for cond in held]
        pairs: dict[str, list[Tensor | None]] = {
            "texts": [c.text_BLC for c in held],
            "latents": [c.references_BRD for c in held],
            "velocities": [*v],
        }
        for name, (a, b) in pairs.items():
            assert a is not None
            assert b is not None
            far[name] = max(far[name], float((a.float() - b.float()).norm() / a.float().norm()))
            equal[name] += torch.equal(a, b)
    for name in far:
        print(f"{name}: {equal[name]} of {len(cases)} bit-equal, at most {far[name]:.1e} apart (norm)")


def _fill(store: ConditioningStore, cases: Sequence[Case]) -> Sequence[Case]:
    """The cases, with 256 text positions of 4,096 channels and 64 x 64 reference tokens of 64 channels each."""
    layout = Layout("edit", (64, 64), ((64, 64),), (4,))
    for case in cases:
        for prompt in (case.prompt, *NEGATIVES["edit"]):
            text_BLC = torch.randn(1, 256, 4096).bfloat16()
            cond = Conditioning(text_BLC, text_BLC.new_ones(1, 256, dtype=torch.bool), layout, torch.randn(1, 4096, 64))
            store.add(store_key(case, prompt, store, SIZE), cond)
    store.flush()
    return cases


def _loading(name: str, cases: Sequence[Case], store: ConditioningStore, batch: int, size: tuple[int, int]) -> None:
    """Prints the wall seconds of a batch: read from the store, and again from the loader's memory."""
    composition = unchanging(Ratio(0, 1), {"edit": by_source("edit", [list(cases)], [1])})
    loader = Loader(store, composition, batch=batch, size=size, seed=0, negatives=NEGATIVES)
    taken = [[], []]  # type: list[list[float]]
    for seconds in taken:
        for i in range(len(cases) // batch):
            begun_s = time.perf_counter()
            loader.batch(i)
            seconds.append(time.perf_counter() - begun_s)
    read, held = (1e3 * statistics.median(seconds) for seconds in taken)
    print(f"a batch of {batch}, {name}: {read:.1f} ms from the store, {held:.1f} ms from memory (medians)")


def _profile(backbone: Backbone, cases: Sequence[Case], store: ConditioningStore) -> None:
    profile = cProfile.Profile()
    profile.enable()
    _seconds(backbone, cases, store, together=True)
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
