"""What `fewstep plan` says of a run's needs, in tables, lines and JSON."""

from datetime import datetime

from rich.markup import escape

from fewstep.backbones.blocks import blocks
from fewstep.cli.verbs.plan import ToldPlan, ToldTable
from fewstep.run.budget.budget import Change, GPUBudget, IterationTime, RunNeeds
from fewstep.run.budget.examinations import planned_examinations
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.host_blocks import Transfers
from fewstep.run.budget.memory_settings import MemorySetting
from fewstep.run.teacher_terms import planned_licence
from fewstep.train.ema_decay import shipped_words

GB = 1e9


def told_plan(needs: RunNeeds) -> ToldPlan:
    """All that is said of what a run needs."""
    budget, card = needs.budget, needs.card
    settings = [_settings(budget, needs.time)] if budget.settings else []
    lines = _lines(budget, card, needs.time)
    lines += [] if card is None else [_verdict(budget, card, list(needs.changes))]
    return ToldPlan(
        tables=[*settings, _memory(budget), _work(budget)],
        lines=lines,
        json_text=needs.as_json(),
        fits=needs.fits,
        counted=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _settings(budget: GPUBudget, rate: IterationTime | None) -> ToldTable:
    """What each `auto` was chosen from."""
    waiting = "blocks_to_swap" in budget.chosen
    columns = ["task", *(["swapped"] if waiting else []), "computed again", "parts", "GB"]
    columns += ["PFLOP an iteration", *(["hours"] if rate else []), ""]
    rows = []
    for one in budget.settings:
        said = "[bold green]taken[/]" if one.taken else "" if one.fits else "does not fit"
        hours = [] if rate is None else [_hours(budget, one, rate)]
        figures = str(one.parts), f"{one.bytes / GB:.1f}", f"{one.flops / 1e15:.3g}", *hours
        rows.append([one.task, *([str(one.swapped)] if waiting else []), one.recomputation, *figures, said])
    return ToldTable(
        title=f"{' and '.join(f'run.{key}' for key in budget.chosen)}: auto, at the longest sequences",
        columns=columns,
        left=[0, columns.index("computed again"), len(columns) - 1],
        rows=rows,
    )


def _hours(budget: GPUBudget, setting: MemorySetting, rate: IterationTime) -> str:
    """Hours of a task's iterations with a setting, at the rate of the one that is taken; not told where other blocks
    would travel."""
    if setting.swapped != budget.recipe.run.swapped_blocks and "blocks_to_swap" in budget.chosen:
        return ""
    taken = next(task.flops for task in budget.tasks if task.batch_shape.task == setting.task)
    return f"{rate.seconds[setting.task] * budget.iterations[setting.task] / 3600 * setting.flops / taken:.3g}"


def _memory(budget: GPUBudget) -> ToldTable:
    where = "a GPU" if budget.on_gpu else "this machine's CPU"
    each = "" if budget.gpus == 1 else f", each of {budget.gpus}"
    shared, peaks = budget.gpus > 1, budget.peaks
    names = dict.fromkeys(name for peak in peaks.values() for name, _ in peak.peak.most_common())
    rows = [
        [name, *_share(budget, name), *(f"{peak.peak[name] / GB:.2f}" for peak in peaks.values())] for name in names
    ]
    together = [f"[bold]{peak.bytes / GB:.2f}[/]" for peak in peaks.values()]
    return ToldTable(
        title="memory at the fullest moment of an iteration",
        columns=[
            f"GB on {where}{each}",
            *(["its share"] if shared else []),
            *(f"{task} ({peak.name})" for task, peak in peaks.items()),
        ],
        left=[0, 1] if shared else [0],
        rows=[*rows, ["together", *[""] * shared, *together]],
        last_apart=True,
    )


def _share(budget: GPUBudget, purpose: str) -> list[str]:
    """Whether each GPU holds this kind of memory (weights and the like) whole."""
    if budget.gpus == 1:
        return []
    if not purpose.startswith(("weights", "optimiser", "gradients", "averaged")):
        return ["its own"]
    parts = budget.shard_count(purpose)
    return ["whole" if parts == 1 else f"1 of {parts}"]


def _work(budget: GPUBudget) -> ToldTable:
    tasks = budget.tasks
    rows = [
        ["iterations of the run", *(f"{budget.iterations[t.batch_shape.task]:,}" for t in tasks)],
        ["samples", *(f"{t.samples:,}" for t in tasks)],
    ]
    if any(t.parts > 1 for t in tasks):
        rows.append(["samples at once", *(f"{t.at_once:,}" for t in tasks)])
    rows.append(["tokens of a sample, longest", *(f"{t.batch_shape.tokens:,}" for t in tasks)])
    if any(one.batch_shape.tokens != t.batch_shape.tokens for one, t in zip(budget.usual, tasks, strict=True)):
        rows.append(["tokens of a sample, mean", *(f"{t.batch_shape.tokens:,}" for t in budget.usual)])
    for role in dict.fromkeys(role for task in tasks for role in task.calls):
        rows.append([f"forwards of {role}", *(f"{t.calls.get(role, 0):g}" for t in tasks)])
    rows.append(["PFLOP, backward and recomputation too", *(f"{t.flops / 1e15:.3g}" for t in budget.usual)])
    return ToldTable(title="work, on each GPU", columns=["one iteration", *budget.peaks], left=[0], rows=rows)


def _lines(budget: GPUBudget, card: GPUMemory | None, rate: IterationTime | None) -> list[str]:
    found = [f"{budget.size.parameters / 1e9:,.3g} billion parameters in the transformer, from {budget.size.basis}"]
    found.append(f"licence: {planned_licence(budget.recipe.model, budget.size).words}")
    found += budget.levels
    if budget.store is not None:
        size = f"{budget.store.bytes / GB:.3g} GB for {budget.store.conditionings:,} conditionings"
        found.append(f"conditioning store: about {size}")
    if (exam := planned_examinations(budget.recipe, budget.size)) is not None:
        found += map(escape, exam.words)
        found += [f"[yellow]told:[/] {escape(line)}" for line in exam.warnings]
    if card is not None and "blocks_to_swap" in budget.chosen:
        found.append(_swapped(budget, card))
    if budget.host.bytes:
        found.append(_host(budget))
        found += [_transfers(task, sent, rate.pcie) for task, sent in rate.transfers.items()] if rate else []
    found.append(_disk(budget))
    found.append(shipped_words(budget.recipe.student.ema))
    if rate is None:
        found.append("hours: say a rate with --seconds-per-iteration, --measured RUN or --tflops")
    else:
        found.append(f"hours: [bold]{rate.hours(budget):.3g}[/] at {rate.basis}")
    found += map(escape, budget.shapes.told)
    return [*found, *(f"[yellow]assumed:[/] {note}" for note in budget.notes)]


def _swapped(budget: GPUBudget, card: GPUMemory) -> str:
    """What run.blocks_to_swap: auto stands for."""
    there, missing = len(blocks(budget.size.transformer)), budget.bytes - card.bytes
    number = f"{budget.recipe.run.swapped_blocks} of {there} blocks of the base"
    if missing > 0:
        return f"run.blocks_to_swap: auto finds no number that fits: {missing / GB:.1f} GB are missing with {number}"
    least = "the fewest with which it fits" if budget.recipe.run.swapped_blocks else "all fit on the GPU"
    return f"{number} wait in host memory: {least} (run.blocks_to_swap: auto)"


def _host(budget: GPUBudget) -> str:
    """What waits in host memory."""
    kept = [f"{len(sizes)} blocks of {name}" for name, sizes in budget.host.swapped.items()]
    kept += [f"teacher {name} whole" for name in budget.host.offloaded]
    each = f" for the {budget.ranks.per_machine} GPUs of a machine" if budget.gpus > 1 else ""
    return f"host memory: {budget.host_bytes / GB:.3g} GB, page-locked{each}: {', '.join(kept)}"


def _transfers(task: str, sent: Transfers, pcie: float) -> str:
    """What an iteration sends from there."""
    return (
        f"{task}: {sent.bytes / GB:.3g} GB travel from host memory in an iteration, {sent.seconds:.3g} s at "
        f"{pcie:g} GB/s; {sent.waited:.2g} s of them outlast the computation beside them, and are in the hours"
    )


def _disk(budget: GPUBudget) -> str:
    """What a finished run keeps."""
    run, disk = budget.recipe.run, budget.disk
    best = f" and {run.keep_best} best" if run.best_by else ""
    held = f"a checkpoint: {disk.checkpoint / GB:.3g} GB, the {run.keep_checkpoints} newest{best} kept"
    if run.keep_students:
        held += f"; the averaged student of each of {disk.saves:,} saves: {disk.student / GB:.3g} GB"
    return f"{held}; together {disk.bytes / GB:.3g} GB"


def _verdict(budget: GPUBudget, card: GPUMemory, made: list[Change]) -> str:
    taken, free = budget.bytes / GB, card.gigabytes
    if not made and budget.bytes <= card.bytes:
        return f"[bold green]fits[/] {free} GB: {taken:.1f} GB are taken"
    lines = [
        f"[bold red]does not fit[/] {free} GB: {taken:.1f} GB would be taken. One after another, these change it to:"
    ]
    lines += [f"  {change.bytes / GB:6.1f} GB  {change.keys}" for change in made]
    if not made or not made[-1].fits:
        lines.append("  nothing in the recipe makes it fit: take a larger GPU or a smaller model")
    return "\n".join(lines)
