"""Where the rooms meet: one run, from a recipe to its student folder.

cases -> conditioning store -> loader -> roles -> trainer -> student folder.
"""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.embedded import HARDER, POCKET
from fewstep.backbones.families import load_backbone
from fewstep.backbones.pipeline_backbone import Parts
from fewstep.data.composition import Composition
from fewstep.data.mixture import used_tasks
from fewstep.encode.loader import Loader
from fewstep.flow.rng import NamedRNG
from fewstep.pocket.harder.run_examiner import harder_eval
from fewstep.pocket.student_eval import probe_eval
from fewstep.roles.block_swap import placement_of_run
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.roles import Roles
from fewstep.roles.sharding import Placement
from fewstep.roles.student_eval import StudentEvalBuilder, StudentEvalSetup
from fewstep.run.attention_kernels import tell_attention
from fewstep.run.best_by import best_order, comes_later
from fewstep.run.card_memory import card_memory, least_memory
from fewstep.run.cases_pin import CasesPin
from fewstep.run.compile_time import tell_compilation
from fewstep.run.encoding import EncodedRecipe, accepted_cases, encode_on_all_ranks
from fewstep.run.extensions import NO_EXTENSIONS, Extensions
from fewstep.run.folder import RunDir
from fewstep.run.fork import Origin, begin_fork, fork_origin, origin_folder, refuse_interrupted_fork
from fewstep.run.host_memory import refuse_too_little_host_memory
from fewstep.run.levels import settle_levels
from fewstep.run.memory_choice import settle_memory
from fewstep.run.precision import settle_precision
from fewstep.run.preflight import preflight, say_examinations
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.background_judge import BackgroundJudge, NoJudge, judge_of_run
from fewstep.run.self_exam.exam_judge import refuse_unusable_judge
from fewstep.run.self_exam.examiner import RunExaminer, run_examiner
from fewstep.run.self_exam.measuring import measure_answers
from fewstep.run.student import export_from_run
from fewstep.run.tracking.kinds import refuse_missing_trackers
from fewstep.run.tracking.run_tracking import RunTracking
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.errors import RankLost
from fewstep.runtime.parallel import Ranks, process_group
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.train.build import build_dmd_step
from fewstep.train.checkpoint import Checkpoints
from fewstep.train.dmd_step import DMDStep
from fewstep.train.hooks import RunHooks
from fewstep.train.plan import AUTO
from fewstep.train.preview import SamplePreview
from fewstep.train.settings import DMDSettings
from fewstep.train.trainer import Outcome, Trainer

# Who examines the students of embedded teachers on their way.
EXAMINERS: Mapping[str, StudentEvalSetup] = {POCKET: probe_eval, HARDER: harder_eval}


def distill_recipe(
    recipe: Recipe,
    out: Path,
    reporter: Reporter = SILENT,
    extensions: Extensions = NO_EXTENSIONS,
    fork: str | None = None,
) -> Outcome:
    """Runs a recipe, from its cases to its student folder. The same call resumes a run that was stopped.

    A student of an embedded teacher is examined by its world's reader during the run. For other models there is no
    examiner built in. Under torchrun the ranks share each batch, and the first one writes, examines, exports and
    reports.

    Args:
        out: the run's folder.
        fork: another run's folder, or RUN@WHICH, to continue from its checkpoint.

    Raises:
        FewstepError: whatever can be refused is refused before the first long step.
        RankLost: another rank has ended.
    """
    try:
        with process_group(recipe.run.device) as ranks:
            begun: Path | None = out if fork is None or (out / "recipe.yaml").is_file() else origin_folder(fork)
            ranks.agree("recipe", recipe.resolved_yaml())
            settled = ranks.from_first(partial(settle_precision, recipe, begun, reporter))
            return _Launch(settled, out, reporter if ranks.first else SILENT, extensions, ranks, begun).distill(fork)
    except RankLost as lost:
        held = Checkpoints(out / "checkpoints", keep=1).latest()
        where = f"The same command goes on from {held}" if held else "No checkpoint was whole yet: start it again"
        raise RankLost(f"{lost}. {where}") from lost


class _Launch:
    """One process of a run. begun: the folder of the run that it goes on from, if any."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        reporter: Reporter,
        extensions: Extensions,
        ranks: Ranks,
        begun: Path | None = None,
    ):
        self.recipe, self.out, self.reporter, self.extensions, self.ranks = recipe, out, reporter, extensions, ranks
        self.begun = begun
        self.rng = NamedRNG(recipe.run.seed)

    def distill(self, fork: str | None) -> Outcome:
        device = preflight(
            self.recipe, self.ranks.world, self.reporter, own_examiner=self.extensions.examiner is not None
        )
        self.ranks.from_first(partial(refuse_too_little_host_memory, self.recipe, self.ranks.per_machine))
        self.ranks.from_first(
            partial(refuse_unusable_judge, self.recipe.examine, used_tasks(self.recipe.mixture), self.out)
        )
        self.ranks.from_first(partial(refuse_missing_trackers, self.recipe.track))
        self.recipe = self.ranks.from_first(partial(settle_levels, self.recipe, self.begun, self.reporter))
        start = fork_origin(fork, self.recipe, self.out) if fork and self.ranks.first else None
        begun = (self.out / "recipe.yaml").is_file()  # else cases are read first: a refusal leaves no run folder
        composition = None if begun else self._cases()
        attention = None if composition is None else self._attention(composition, device)
        self.recipe = self._settled_memory(device)
        say_examinations(self.recipe, self.reporter)
        with self._open_run(start, device) as run:
            composition = composition or self._cases()
            attention = self._attention(composition, device) if attention is None else attention
            if self.ranks.first:
                run.note_start({"attention": attention})
            prepared = encode_on_all_ranks(self.recipe, self.out, self.reporter, self.ranks, composition)
            loader = prepared.loader(self.ranks.rank_slice)
            self.ranks.agree("cases", loader.identity())
            pin = CasesPin.of(self.recipe, loader.identity(), loader.counts(), loader.order.revision)
            self.ranks.from_first(lambda: run.pin_cases(pin))
            with judge_of_run(run, prepared.exam, self.reporter, self.ranks) as judge:
                with RunTracking(run, self.reporter, self.ranks.first) as tracking:
                    outcome = self._trainer(run, prepared, loader, device, judge, tracking).train()
                if not outcome.stopped:
                    judge.finish()
            if self.ranks.first:
                self._finish(run, outcome)
            self.ranks.wait()
            return outcome

    def _settled_memory(self, device: torch.device) -> Recipe:
        asked, card = self.recipe, least_memory(self.ranks.gather(card_memory(device)))
        settled = self.ranks.from_first(partial(settle_memory, asked, self.out, card, self.ranks, self.reporter))
        if asked.run.blocks_to_swap == AUTO:  # what waits in host memory is known only now
            there = partial(refuse_too_little_host_memory, settled, self.ranks.per_machine, fewest=True)
            self.ranks.from_first(there)
        return settled

    def _attention(self, composition: Composition, device: torch.device) -> list[dict[str, Any]]:
        tell = partial(tell_attention, self.recipe, composition, device, self.ranks.world, self.reporter)
        return self.ranks.from_first(tell)

    def _cases(self) -> Composition:
        return accepted_cases(self.recipe, self.out, self.reporter, needed="all")

    def _trainer(
        self,
        run: RunDir,
        prepared: EncodedRecipe,
        loader: Loader,
        device: torch.device,
        judge: BackgroundJudge | NoJudge,
        tracking: RunTracking,
    ) -> Trainer:
        plan, precision = self.recipe.run, self.recipe.run.precision
        placement = placement_of_run(plan.swapped_blocks, plan.sharding, self.ranks, device, precision)
        backbone, examiner = self._load_model(device, placement)
        roles = self._roles(backbone, placement)
        grid = self.recipe.student.grid
        own = self._self_exam(run, prepared, roles, judge)
        drawn = "averaged student" if self.recipe.student.ema else "raw student"
        preview = SamplePreview.from_loader(roles, loader, grid, precision, run.samples, self.ranks, drawn)
        on_iteration = tracking.after(self.extensions.on_iteration)
        hooks = RunHooks(
            self_exam=own,
            closeness=None if own is None else best_order(self.recipe, own),
            later=comes_later(self.recipe),
            patience=None if self.recipe.examine is None else self.recipe.examine.patience,
            examine=examiner(roles.student, grid, precision) if examiner else None,
            render=preview.render,
            on_iteration=tell_compilation(self.reporter, on_iteration) if plan.compile else on_iteration,
            reporter=self.reporter,
        )
        self.reporter.say(f"run folder {self.out}: metrics.jsonl, checkpoints/, samples/", "result")
        return Trainer(run.folder, self._step(roles), loader.batch, plan, hooks, self.ranks)

    def _self_exam(
        self, run: RunDir, prepared: EncodedRecipe, roles: Roles, judge: BackgroundJudge | NoJudge
    ) -> RunExaminer | None:
        """What examines the run against its teachers; None if the recipe does not ask for it. The first rank freezes
        the set for all."""
        if (planned := prepared.exam) is None:
            return None
        self.ranks.from_first(lambda: planned.freeze(run.folder) and None)
        asked = run, planned, prepared.store, prepared.negatives, roles, self.ranks, self.reporter
        return run_examiner(*asked, measure_answers, judge.submit)

    def _roles(self, backbone: Backbone, placement: Placement) -> Roles:
        r, run = self.recipe, self.recipe.run
        spec = RolesSpec(r.student, r.critic, r.teachers, run.iterations)
        execution = Execution(run.precision, run.recomputation_by_task, run.compile, placement)
        return build_roles(backbone, spec, self.rng, execution)

    def _step(self, roles: Roles) -> DMDStep:
        r = self.recipe
        settings = DMDSettings(r.student, r.critic, r.objective, r.teachers.watch)
        further = tuple(build(roles, r.student.grid, self.rng) for build in self.extensions.extra_losses)
        return build_dmd_step(roles, settings, self.rng, self.ranks, extra_losses=further)

    def _load_model(self, device: torch.device, placement: Placement) -> tuple[Backbone, StudentEvalBuilder | None]:
        """The model without its text encoder, and what examines its student.

        An examiner encodes its own prompts, and decodes. So for the examiner every rank loads the whole embedded model,
        which is tiny.
        """
        model, run = self.recipe.model, self.recipe.run
        setup: StudentEvalSetup | None = self.extensions.examiner or EXAMINERS.get(model)
        if run.examine_every_iterations == 0:  # nothing will be asked of it, and encoding its cases takes seconds
            setup = None
        dtype = PRECISIONS[run.precision]

        def loaded(to: torch.device, parts: Parts) -> Backbone:
            return load_backbone(model, dtype=dtype, device=to, parts=parts, base_weights=run.base_weights)

        with self.reporter.waiting(f"loading {model}"):
            backbone = loaded(device, "all") if setup else placement.model(lambda to: loaded(to, "decoder"), device)
        examiner = setup(backbone) if setup else None
        backbone.release_encoder()
        return backbone, examiner

    def _open_run(self, start: Origin | None, device: torch.device) -> RunDir:
        """The first rank creates and locks the run folder for all ranks, and starts a fork."""
        if not self.ranks.first:
            self.ranks.wait()
            return RunDir(self.out, self.recipe)
        facts = {"device": str(device), "threads": torch.get_num_threads(), "ranks": self.ranks.world}
        if self.extensions.extra_losses:
            facts["extra_losses"] = self.extensions.names()
        run = RunDir.open_or_create(self.out, self.recipe, facts)
        try:
            if start:
                begin_fork(run, start, self.reporter.say)
            refuse_interrupted_fork(run)
            self.ranks.wait()
        except BaseException:
            run.close()
            raise
        return run

    def _finish(self, run: RunDir, outcome: Outcome) -> None:
        """Exports the student of the best checkpoint, once. Not if a hook ended the run early."""
        if outcome.stopped:
            self.reporter.say(f"stopped after {outcome.iterations} iterations; the same call goes on", "result")
            return
        for left in run.folder.glob(f".{run.student.name}.*.tmp"):  # by a kill: the run is locked by us
            shutil.rmtree(left, ignore_errors=True)
        if not any(run.student.iterdir()):
            with self.reporter.waiting("writing the student folder"):
                which = "best" if outcome.best or comes_later(self.recipe) else "last"
                export_from_run(run, run.student, which, reporter=self.reporter)
        self.reporter.say(f"student {run.student}, opens with DiffusionPipeline.from_pretrained", "result")
