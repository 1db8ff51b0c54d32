"""How the pocket teacher was made: render, fit the encoder, train transformer and decoder, export, train the probe.

Every stage resumes, or is skipped if its result exists. Run the same command again to continue.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing
from torch import nn

from fewstep.pocket.build import (
    Pipeline,
    build_pocket_pipeline,
    load_pocket_teacher,
)
from fewstep.runtime.durable import as_umask_says
from pocket_making import corpus, vae
from pocket_making.ranks import TeacherRanks
from pocket_making.shared_prefix import Grid
from pocket_making.teacher_trainer import (
    Log,
    TeacherTrainer,
    TeacherTrainingConfig,
)
from pocket_making.training_batches import encode_corpus, read_corpus


def train_pocket(
    out: Path,
    minutes_vae: float = 10.0,
    minutes_teacher: float = 70.0,
    minutes_probe: float = 6.0,
    shards: tuple[int, int] = (24, 20),
    plan: TeacherTrainingConfig = TeacherTrainingConfig(),
    workers: int = 2,
    log: Log = print,
    start: Path | None = None,
) -> Path:
    """All stages, from nothing to `out/pipeline`, a stock pipeline folder, and `out/probe`. A T2I shard takes 50 MB of
    disk, an edit shard 100 MB. The shipped teacher took 24 + 20 shards and an hour on two shared cores (3100 steps).

    start: a pocket pipeline to continue from, with its encoder and transformer.

    Setting GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184 before the start saves two
    fifths of the time. Otherwise this time is lost on fresh memory pages for every large tensor."""
    for path in corpus.render_corpus(out / "corpus", *shards, workers=workers):
        log(f"rendered {path.name}")
    pipeline = prepare(out, log, start, build_pocket_pipeline, lambda: pictures_of_components(out / "corpus"))
    encode_corpus(out / "corpus", pipeline)
    train_teacher(out, minutes_teacher, plan, workers, GROUPS, log)
    torch.set_num_threads(workers)
    train_and_save_decoder(out, minutes_vae, lambda: [pictures_of_decoder(out / "corpus")], log)
    export_pocket_teacher(out, out / "pipeline")
    if minutes_probe > 0 and not (out / "probe" / "accuracy.json").exists():
        from pocket_making.probe_train import train_probe

        probe = train_probe(load_pocket_teacher(out / "pipeline").vae, minutes_probe, log=log)
        probe.save(out / "probe")
        log(f"probe {probe.accuracy}")
    return out / "pipeline"


Groups = dict[str, list[tuple[str, Grid]]]  # task -> its layouts: the name of their shards, and a picture's tokens
GROUPS: Groups = {"t2i": [("t2i", (4, 4))], "edit": [("edit", (4, 4))]}


def train_teacher(
    out: Path, minutes: float, plan: TeacherTrainingConfig, workers: int, groups: Groups, log: Log
) -> None:
    """The teacher's stage, in `workers` processes of one thread."""
    if workers == 1:
        train_teacher_on_rank(0, out, minutes, plan, 1, "", groups, log)
        return
    rendezvous = out / "meeting"
    rendezvous.unlink(missing_ok=True)
    arguments = (out, minutes, plan, workers, f"file://{rendezvous.resolve()}", groups, log)
    torch.multiprocessing.spawn(train_teacher_on_rank, arguments, nprocs=workers)


def train_teacher_on_rank(
    rank: int,
    out: Path,
    minutes: float,
    plan: TeacherTrainingConfig,
    workers: int,
    rendezvous: str,
    groups: Groups,
    log: Log,
) -> None:
    torch.set_num_threads(1)
    ranks = TeacherRanks(rank, workers, rendezvous)
    pipeline = load_pocket_teacher(out / "base")
    data = {task: [read_corpus(out / "corpus", *group) for group in some] for task, some in groups.items()}
    TeacherTrainer(pipeline, out / "teacher", plan, minutes, log if rank == 0 else discard_log, ranks).run(data)


def discard_log(message: str) -> None:
    """The other ranks' log."""


def round_to_bf16(module: nn.Module) -> None:
    """Rounds the weights as bf16 will store them, so the rest is trained on the weights that ship."""
    for tensor in module.parameters():
        tensor.data = tensor.data.to(torch.bfloat16).float()


def pictures_of_components(corpus_folder: Path) -> np.ndarray:
    shards = [np.load(corpus_folder / f"{task}-000.npz")["images"] for task in ("t2i", "edit")]
    return np.concatenate([shards[0][:, 0], shards[1][:3000, 0], shards[1][:3000, 1]])


def pictures_of_decoder(corpus_folder: Path) -> np.ndarray:
    paths = sorted(corpus_folder.glob("t2i-*.npz"))[:8] + sorted(corpus_folder.glob("edit-*.npz"))[:3]
    return np.concatenate([np.load(path)["images"].reshape(-1, 64, 64, 3) for path in paths])


def prepare(
    out: Path,
    log: Log,
    start: Path | None,
    untrained: Callable[[], Pipeline],
    images: Callable[[], np.ndarray],
) -> Pipeline:
    """The pipeline to train from, made once: `start`, or an untrained one whose encoder is set to the principal
    components of these images."""
    base = out / "base"
    if start is not None and not (base / "model_index.json").exists():
        load_pocket_teacher(start).save_pretrained(base)
    if not (base / "model_index.json").exists():
        pipeline = untrained()
        log(f"principal components keep {vae.set_principal_components(pipeline.vae, images()):.4f} of the variance")
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.transformer):
            round_to_bf16(part)
        pipeline.save_pretrained(base)
    return load_pocket_teacher(base)


def export_pocket_teacher(out: Path, folder: Path) -> None:
    """Write the pipeline with the EMA transformer and the latest decoder, in bf16, in diffusers' layout."""
    pipeline = load_pocket_teacher(out / "base")
    state = torch.load(out / "teacher" / "state.pt", weights_only=True)
    pipeline.transformer.load_state_dict({**state["model"], **state["ema"]})
    decoder = next((path for path in (out / "decoder.pt", out / "decoder.part") if path.exists()), None)
    if decoder is not None:
        pipeline.vae.load_state_dict(torch.load(decoder, weights_only=True))
    vae.clear_unread(pipeline.vae.encoder)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        round_to_bf16(part)
        part.to(torch.bfloat16)
    pipeline.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        as_umask_says(weights)
    drop_folder_paths(folder)


def drop_folder_paths(folder: Path) -> None:
    """Removes the loader's record of its folder: the place of training should not ship."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def train_and_save_decoder(out: Path, minutes: float, pictures: Callable[[], list[np.ndarray]], log: Log) -> None:
    """The decoder's stage, on pictures of one size each."""
    if (out / "decoder.pt").exists() or minutes <= 0:
        return
    pipeline = load_pocket_teacher(out / "base")
    for _ in vae.train_decoder(pipeline.vae, pictures(), minutes, log=log):
        torch.save(pipeline.vae.state_dict(), out / "decoder.part")
    torch.save(pipeline.vae.state_dict(), out / "decoder.pt")


__all__ = ["TeacherTrainingConfig", "export_pocket_teacher", "train_pocket"]
