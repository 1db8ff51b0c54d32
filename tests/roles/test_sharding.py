"""Weights sharded over several ranks do what replicated ones do: FSDP2 over gloo, each rank a process of its own."""

import json
import resource
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fewstep.backbones.blocks import blocks
from fewstep.backbones.meta_copy import meta_copy
from fewstep.backbones.testing.toy import ToyBackbone
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import FirstStepAnchorPlan, ObjectivePlan
from fewstep.roles.build import RolesSpec, TeacherLoaders, build_roles
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.execution import Execution
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.recomputation import recompute
from fewstep.roles.roles import Roles
from fewstep.roles.sharding import placement_for
from fewstep.runtime.errors import EnvironmentRefused, ModelError
from fewstep.runtime.parallel import (
    SINGLE_RANK,
    Ranks,
    local_shard,
    local_shard_of,
)
from fewstep.train.build import build_dmd_step
from fewstep.train.checkpoint import (
    Position,
    checkpoint_fault,
    load_checkpoint,
)
from fewstep.train.kept_students import KeptStudents
from fewstep.train.plan import RunPlan
from fewstep.train.settings import DMDSettings
from fewstep.train.sharded_checkpoint import ShardedCheckpoints
from fewstep.train.trainer import Trainer
from tests.train.ranks import assert_alike, flat, on_ranks, rank_batch, relative_distance
from tests.train.runs import ending, examined, toy_trainer
from tests.train.tiny_model import batch as tiny_batch
from tests.train.tiny_model import tiny

CPU = torch.device("cpu")
ADAPTER = AdapterPlan(rank=2, alpha=2)
SIZE = 4


def toy(folder: Path, ranks: Ranks, iterations: int = 3, sharding: str = "full", **run: Any) -> Trainer:
    """Full copies of a Gaussian world, whose small tensors give some ranks nothing; examined."""
    trainer = toy_trainer(
        folder,
        batch=lambda plain: lambda i: rank_batch(plain(i), ranks),
        ranks=ranks,
        placement=placement_for(sharding, ranks, CPU, "fp32"),
        **{
            "iterations": iterations,
            "save_every_iterations": 1,
            "best_by": "size",
            "sample_every_iterations": 0,
            "keep_checkpoints": 9,
            **run,
        },
    )
    trainer.hooks = replace(trainer.hooks, examine=examined(trainer))
    return trainer


def trained(folder: Path, ranks: Ranks, **given: Any) -> None:
    toy(folder, ranks, **given).train()


@pytest.mark.parametrize(("ranks", "sharding"), [(3, "full"), (4, "hybrid")])
def test_a_sharded_run_ends_as_one_process(tmp_path: Path, ranks: int, sharding: str) -> None:
    trained(tmp_path / "one", SINGLE_RANK)
    on_ranks(ranks, partial(trained, sharding=sharding), tmp_path / "many", per_machine=2)
    assert_alike(tmp_path / "one", tmp_path / "many")


@pytest.mark.parametrize("then", [1, 4])
def test_a_sharded_run_goes_on_with_another_number_of_ranks(tmp_path: Path, then: int) -> None:
    trained(tmp_path / "one", SINGLE_RANK, iterations=5)
    on_ranks(2, trained, tmp_path / "many")
    if then == 1:
        trained(tmp_path / "many", SINGLE_RANK, iterations=5)
    else:
        on_ranks(then, partial(trained, iterations=5), tmp_path / "many")
    assert_alike(tmp_path / "one", tmp_path / "many")


def test_a_sharded_run_goes_on_from_a_checkpoint_of_one_process(tmp_path: Path) -> None:
    trained(tmp_path / "one", SINGLE_RANK, iterations=5)
    trained(tmp_path / "many", SINGLE_RANK)
    on_ranks(2, partial(trained, iterations=5), tmp_path / "many")
    assert_alike(tmp_path / "one", tmp_path / "many")


def test_the_student_of_each_save_of_a_sharded_run_stays(tmp_path: Path) -> None:
    on_ranks(2, partial(trained, keep_checkpoints=1, best_by=None), tmp_path / "few")
    on_ranks(2, partial(trained, best_by=None), tmp_path / "all")
    kept, checkpoints = KeptStudents(tmp_path / "few"), tmp_path / "all" / "checkpoints"
    assert kept.iterations() == [1, 2, 3]
    assert len(list((tmp_path / "few" / "checkpoints").iterdir())) == 1
    for iteration in kept.iterations():
        held = load_checkpoint(checkpoints / Position(iteration).name, stems=["student_average"])[0]["student_average"]
        student = kept.load(iteration)
        assert student.keys() == held.keys()
        assert all(torch.equal(student[name], held[name]) for name in held)
    files = [file for file in kept.find(1).place.rglob("*") if file.is_file()]
    checkpoint = sum(file.stat().st_size for file in (checkpoints / Position(1).name).rglob("*"))
    assert sum(file.stat().st_size for file in files) < 0.25 * checkpoint


# ---- the real transformer


def iterated(
    folder: Path,
    ranks: Ranks,
    *,
    mode: str = "full",
    sharding: str = "full",
    objective: ObjectivePlan = ObjectivePlan(),
    teachers: TeachersSpec = TeachersSpec(),
    prefix: str = "full",
    checkpointing: Any = "off",
    parts: int = 1,
    precision: str = "fp32",
) -> None:
    """Three iterations, T2I and edits in turn, at weights held still: steps below their resolution. Both networks begin
    far from the base, since the rounding of two that agree is all that is left of their difference."""
    shared = {"mode": mode, "adapter": ADAPTER, "learning_rate": 1e-12, "prefix_gradient": prefix}
    student, critic = StudentPlan(steps=2, **shared), CriticPlan(updates=2, **shared)
    backbone = tiny()
    if not ranks.first and sharding != "off":
        backbone = backbone.meta_copy()
    roles = build_roles(
        backbone,
        RolesSpec(student, critic, teachers, 3),
        NamedRNG(0),
        Execution(precision, checkpointing, placement=placement_for(sharding, ranks, CPU, precision)),
        TeacherLoaders(adapter=lambda source: {}, model=lambda *_: another(ranks)),
    )
    move_from_base(roles)
    batches = (lambda i: rank_batch(tiny_batch(i, SIZE), ranks)) if ranks.world > 1 else (lambda i: tiny_batch(i, SIZE))
    run = RunPlan(iterations=3, examine_every_iterations=0, sample_every_iterations=0, gradient_accumulation=parts)
    Trainer(
        folder,
        build_dmd_step(roles, DMDSettings(student, critic, objective), NamedRNG(0), ranks),
        batches,
        run,
        ranks=ranks,
    ).train()


def move_from_base(roles: Roles) -> None:
    for network in (roles.student, roles.critic):
        for name, weight in network.state().items():
            far = NamedRNG(7).normal(tuple(weight.shape), f"{network.name} {name}") / (
                50 if network.adapter is None else 5
            )
            local_shard(weight).add_(local_shard_of(far, weight))


def another(ranks: Ranks) -> nn.Module:
    assert ranks.first, "one rank opens the model"
    transformer = tiny().transformer
    with torch.no_grad():
        transformer.proj_out.weight.mul_(1.5)
    return transformer


ANCHORED = ObjectivePlan(first_step_anchor=FirstStepAnchorPlan(teacher_steps=2))
OTHER = {"preset": "constant", "ramp": 0, "named": {"other": {"model": "other"}}}
MODEL_TEACHER = TeachersSpec.model_validate(OTHER)
# Whom a rank's samples ask differs from rank to rank, and a sharded network is run by all ranks or by none.
GUIDED = {task: {"scale": 3.0, "negative": ""} for task in ("t2i", "edit")}
OF_SIGNS = TeachersSpec.model_validate(
    OTHER | {"base": {"guidance": GUIDED}, "named": {"other": {"model": "other", "categories": ["sign"]}}}
)
ALONE_ON_SIGNS = OF_SIGNS.model_copy(update={"preset": "specialised-alone"})
DECOUPLED = ANCHORED.model_copy(update={"decoupled_guidance": True})


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"checkpointing": "full"}, marks=pytest.mark.slow),
        {"checkpointing": "selective", "sharding": "hybrid"},
        pytest.param({"objective": ANCHORED}, marks=pytest.mark.slow),  # decoupled has it too
        {"parts": 2},
        {"prefix": "stopped", "teachers": MODEL_TEACHER},
        pytest.param({"mode": "adapter", "teachers": MODEL_TEACHER}, marks=pytest.mark.slow),
        {"teachers": OF_SIGNS, "objective": DECOUPLED},
        {"mode": "adapter", "teachers": ALONE_ON_SIGNS},
        pytest.param({"mode": "adapter", "sharding": "hybrid", "prefix": "stopped"}, marks=pytest.mark.slow),
    ],
    ids=lambda given: " ".join(f"{key}={value if isinstance(value, str) else ''}" for key, value in given.items()),
)
def test_sharded_gradients_are_one_process_s(tmp_path: Path, given: dict[str, Any]) -> None:
    iterated(tmp_path / "one", SINGLE_RANK, **given)
    ranks = 4 if given.get("sharding") == "hybrid" else 2 if "parts" in given else 3
    on_ranks(ranks, partial(iterated, **given), tmp_path / "many", per_machine=2)
    (one, _), (many, _) = ending(tmp_path / "one"), ending(tmp_path / "many")
    for role, bound in (("critic", 2e-6), ("student", 3e-5)):  # test_ranks.py says why they differ
        for moment in ("/exp_avg", "/exp_avg_sq"):
            assert (
                relative_distance(flat(one[f"{role}_optimiser"], moment), flat(many[f"{role}_optimiser"], moment))
                < bound
            )


def test_weights_are_gathered_in_the_precision_of_forwards(tmp_path: Path) -> None:
    """In bf16 a gathered weight is what autocast makes of the master, norms' and modulation's too. Gradients then agree
    as two forwards in bf16 do."""
    iterated(tmp_path / "one", SINGLE_RANK, precision="bf16")
    on_ranks(2, partial(iterated, precision="bf16"), tmp_path / "many")
    (one, _), (many, _) = ending(tmp_path / "one"), ending(tmp_path / "many")
    for role in ("critic", "student"):
        distance = relative_distance(
            flat(one[f"{role}_optimiser"], "/exp_avg"), flat(many[f"{role}_optimiser"], "/exp_avg")
        )
        assert 1e-6 < distance < 0.1


def compiling(folder: Path, ranks: Ranks) -> None:
    """A block's weights are gathered outside of what was compiled of it, with recomputation inside of it too."""
    backbone, placement, cond = tiny(), placement_for("full", ranks, CPU, "fp32"), tiny_batch(0, SIZE).cond
    transformer = placement.masters(backbone.transformer, {})
    z_BND, t_B = NamedRNG(0).normal((SIZE, *backbone.noise_shape(cond.layout)), "z"), torch.full((SIZE,), 0.5)
    found = []
    for then in (compile_blocks, recompute, lambda *_: None):
        v_BND = backbone.velocity(transformer, z_BND, t_B, cond)
        v_BND.square().mean().backward()
        found.append([v_BND.detach(), *(_whole(p.grad) for p in transformer.parameters() if p.grad is not None)])
        transformer.zero_grad()
        then(transformer, "eager" if then is compile_blocks else "selective")  # type: ignore[operator]
    for plain, *others in zip(*found, strict=True):
        for its in others:
            torch.testing.assert_close(its, plain)


def test_sharded_blocks_may_be_compiled(tmp_path: Path) -> None:
    on_ranks(2, compiling, tmp_path)


def each_holds_its_shard(folder: Path, ranks: Ranks) -> None:
    """Each rank holds its shard of everything and no more; adapters are replicated."""
    placement = placement_for("full", ranks, CPU, "fp32")
    base = tiny()
    total = sum(p.numel() for p in base.transformer.parameters())
    spec = RolesSpec(StudentPlan(steps=2, adapter=ADAPTER), CriticPlan(mode="full"), TeachersSpec(), 1)
    roles = build_roles(base, spec, NamedRNG(0), Execution(placement=placement))
    assert roles.is_sharded
    assert (roles.student.has_sharded_parameters, roles.critic.has_sharded_parameters) == (False, True)
    held = sum(local_shard(p).numel() for p in roles.critic.transformer.parameters())
    everyone = ranks.gather(held)
    assert sum(everyone) == total
    assert max(everyone) < 0.6 * total
    gathered = {n: _whole(p) for n, p in roles.critic.transformer.named_parameters()}
    for name, weight in tiny().transformer.named_parameters():
        assert torch.equal(gathered[name], weight), name
    assert all(not isinstance(p, DTensor) for p in roles.student.parameters())
    assert base.transformer is roles.student.transformer


def _whole(weight: Tensor) -> Tensor:
    assert isinstance(weight, DTensor)
    return weight.full_tensor()


def test_each_rank_holds_its_shard_alone(tmp_path: Path) -> None:
    on_ranks(2, each_holds_its_shard, tmp_path)


def test_every_block_is_gathered_on_its_own() -> None:
    transformer = tiny().transformer
    assert blocks(transformer) == list(transformer.transformer_blocks)


def test_a_meta_copy_has_everything_but_the_weights() -> None:
    transformer = tiny().transformer
    twin = meta_copy(transformer)
    assert all(p.is_meta for p in twin.parameters())
    assert [b.tolist() for b in twin.buffers()] == [b.tolist() for b in transformer.buffers()]
    assert twin.config == transformer.config


# ---- writing while training goes on


def changing(folder: Path, ranks: Ranks) -> None:
    """What is saved is what was there when it was; then a save that one rank cannot do."""
    placement = placement_for("full", ranks, CPU, "fp32")
    network = placement.masters(tiny().transformer, {})
    named = {name: weight.detach() for name, weight in network.named_parameters()}
    checkpoints = ShardedCheckpoints(folder, 3, print, ranks)
    counts, best = {"turns": 1}, [1]
    place = checkpoints.save(Position(1), {"student": named}, counts, best)
    assert checkpoint_fault(place) is not None
    for weight in named.values():
        local_shard(weight).zero_()
    counts["turns"], best[0] = 2, 2
    checkpoints.finish()
    assert checkpoints.latest() == place
    checkpoints.save(Position(2), {"student": named}, counts, best)
    while checkpoint_fault(folder / "iteration-000002") is not None:
        checkpoints.poll()
    if ranks.rank == 1:
        full_disk()
    checkpoints.save(Position(3), {"student": named}, counts, best)
    with pytest.raises(EnvironmentRefused, match="iteration-000003 cannot be written: File too large"):
        checkpoints.finish()
    assert checkpoints.latest_intact() == folder / "iteration-000002"
    hashed = json.loads((folder / "iteration-000002" / "hashes.json").read_text())["files"]
    assert hashed.keys() == {"state.json", *(f"shards/{file.name}" for file in (place / "shards").iterdir())}


def full_disk() -> None:
    """No file of this process grows beyond a few bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


def test_what_is_saved_is_what_was_there(tmp_path: Path) -> None:
    on_ranks(2, changing, tmp_path)
    (one, its_state), (other, _) = (
        load_checkpoint(tmp_path / "iteration-000001"),
        load_checkpoint(tmp_path / "iteration-000002"),
    )
    assert its_state == {"turns": 1}
    for name, weight in tiny().transformer.named_parameters():
        assert torch.equal(one["student"][name], weight)
        assert not other["student"][name].any()
    assert load_checkpoint(tmp_path / "iteration-000001", stems=["critic"])[0] == {}


# ---- refusals reach all


def misfitting(folder: Path, ranks: Ranks) -> None:
    def smaller(*_: Any) -> nn.Module:
        return ToyBackbone().transformer

    with pytest.raises(ModelError, match="has other weights"):
        build_roles(
            tiny(),
            RolesSpec(StudentPlan(steps=2, adapter=ADAPTER), CriticPlan(adapter=ADAPTER), MODEL_TEACHER, 1),
            NamedRNG(0),
            Execution(placement=placement_for("full", ranks, CPU, "fp32")),
            TeacherLoaders(adapter=lambda source: {}, model=smaller),
        )


def test_a_teacher_that_does_not_fit_is_refused_on_all_ranks(tmp_path: Path) -> None:
    on_ranks(2, misfitting, tmp_path)
