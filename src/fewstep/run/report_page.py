"""The report of one student: a run and its examination on one page.

It reads files only: the run's metrics, samples, recipe and environment, and the examination. What is missing is left
out.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from fewstep.data.declared_shares import declared_categories, declared_tasks
from fewstep.pages.charts import Series
from fewstep.pages.page import (
    Chart,
    Counts,
    ReportPage,
    ShareTable,
    Sheet,
    SheetPicture,
    Strip,
)
from fewstep.run.examination import (
    ExaminationResult,
    cards,
    sheets,
    system_description,
    table,
)
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.pages import ExamPages, event_words, pull_words
from fewstep.runtime.strict_json import load_json
from fewstep.sample.origin import origin_of

CHARTS = (
    ("Critic against teacher", ("cosine",), "Cosine of the two velocities; healthy near 0.98."),
    ("Gap", ("gap",), "Distance of the two velocities, relative; healthy when small and steady."),
    ("Student's loss", ("student_loss",), ""),
    ("Critic's loss", ("critic_loss",), "Says little by itself."),
    ("Norms of gradients", ("student_norm", "critic_norm"), "Before clipping."),
    ("Saturation", ("saturation", "saturation_teachers"), "Share of latent values beyond three standard deviations."),
    ("Spread of the latents", ("latent_spread",), "Student's over teachers', as clean estimates; healthy near 1."),
)
EVENTS = 20  # of further ones only the number is shown


def student_page(
    run: RunDir,
    examination: ExaminationResult | None,
    *,
    command: str,
    minutes: float | None = None,
    machine: str = "",
    state: str = "",
) -> ReportPage:
    """The page of a run, with its examination if there is one. state: how far a run is that has not ended, in words."""
    metrics = run.metrics()
    trained = [m for m in metrics if m["phase"] == "distil"]
    spent = minutes if minutes is not None else _minutes(metrics)
    own = ExamPages(run)
    found = examination.found if examination else None
    return ReportPage(
        title=_title(run, examination),
        summary=_summary(run, examination, spent, state),
        cards=(*(cards(examination, spent, len(trained)) if examination else ()), *own.cards()),
        tables=(*((table(examination),) if examination else ()), *own.tables()),
        sheets=(*(sheets(examination) if examination else ()), *own.sheets()),
        charts=(*own.charts(), *_charts(metrics), *_pulls(trained)),
        events=_events(metrics),
        samples=_samples(run),
        shares=_shares(run, trained),
        counts=_counts(trained),
        facts=_facts(run, command, spent, machine, found),
        texts=(("Recipe, resolved", run.recipe.resolved_yaml()),),
    )


# ---- summary


def _title(run: RunDir, examination: ExaminationResult | None) -> str:
    if examination is None:
        return f"{run.recipe.name}: a student of {run.recipe.student.steps} steps"
    return f"{run.recipe.name}: {examination.calls[1]} network calls instead of {examination.calls[0]}"


def _summary(run: RunDir, examination: ExaminationResult | None, minutes: float, state: str = "") -> str:
    r = run.recipe
    if state:
        return f"A {r.student.steps}-step student of {r.model}. {state}"
    begun = f"A {r.student.steps}-step student of {r.model}, distilled in {minutes:.1f} minutes"
    if examination is None:
        return f"{begun}; it has not been examined yet."
    calls, right = examination.calls, examination.attributes
    beside = f" Beside {r.model} it learned from {', '.join(r.learned_from)}." if r.learned_from else ""
    return (
        f"{begun}.{beside} With {calls[1]} network calls a picture instead of {calls[0]} it gets "
        f"{100 * right.shown['value']:.0f} % {right.words(r.model)}, in text to image."
    )


# ---- pictures


def _samples(run: RunDir, most: int = 6) -> tuple[Sheet, ...]:
    """The run's sample previews: sources of edits, the teacher at all its steps and at the student's, then the student
    at up to `most` moments."""
    folder = run.samples / "pictures"
    cases = sorted(path.stem.removeprefix("teacher-") for path in folder.glob("teacher-*.png"))
    moments = sorted({path.stem.split("-")[1] for path in folder.glob("student-*-*.png")})
    kept = _spread(moments, most)
    prompts = _preview_prompts(run)
    strips = []
    for number, case in enumerate(cases):
        student = [(moment, folder / f"student-{moment}-{case}.png") for moment in kept]
        shown = [SheetPicture(f"{int(moment):,}", path) for moment, path in student if path.is_file()]
        sources = [SheetPicture("Source", path) for path in sorted(folder.glob(f"source-{case}-*.png"))]
        taught = [path for who in ("teacher", "few") if (path := folder / f"{who}-{case}.png").is_file()]
        teachers = [SheetPicture((origin_of(path) or "teacher").capitalize(), path) for path in taught]
        strips.append(Strip(prompts.get(int(case), f"Case {number + 1}"), (*sources, *teachers, *shown)))
    note = (
        "Each row is one case from one noise: its teacher of details at all its steps and at the student's, then the "
        "student after so many iterations."
    )
    return (Sheet("Samples on the way", tuple(strips), note, compact=True),) if strips and kept else ()


def _preview_prompts(run: RunDir) -> dict[int, str]:
    """By number of the case; empty for runs of versions that did not keep them."""
    try:
        held = load_json((run.samples / "cases.json").read_text(encoding="utf-8"))
        return {i: str(each["prompt"]) for i, each in enumerate(held) if each.get("prompt")}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _spread(moments: Sequence[str], most: int) -> list[str]:
    """The first moment, the last, and evenly spaced ones between."""
    if len(moments) <= most:
        return list(moments)
    return [moments[round(i * (len(moments) - 1) / (most - 1))] for i in range(most)]


# ---- training and data


def _charts(metrics: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    trained = [m for m in metrics if m["phase"] == "distil"]
    charts = [Chart(title, tuple(_series(trained, k) for k in keys), note=note) for title, keys, note in CHARTS]
    looked = [m for m in metrics if m["phase"] == "examine"]
    own = {"examination_seconds", "composite"}  # of the run's own examinations, which have charts of their own
    names = sorted({k for m in looked for k, v in m.items() if isinstance(v, float) and "." not in k} - own)
    groups = {"Examined on the way": [k for k in names if all(0 <= m.get(k, 0) <= 1 for m in looked)]}
    groups |= {_words(k).capitalize(): [k] for k in names if k not in groups["Examined on the way"]}
    charts += [Chart(title, tuple(_series(looked, k) for k in keys)) for title, keys in groups.items()]
    return tuple(chart for chart in charts if any(series.points for series in chart.series))


def _pulls(trained: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """A chart for each specialised teacher, with one line for each student step."""
    names = sorted({key.removeprefix("pull/") for m in trained for key in m if key.startswith("pull/")})
    note = "How hard the teacher pulls, against the base: 1 where the two balance."
    charts = []
    for name in names:
        steps = sorted({m["student_step"] for m in trained if f"pull/{name}" in m})
        lines = [_series([m for m in trained if m["student_step"] == k], f"pull/{name}") for k in steps]
        named = tuple(Series(f"step {k}", line.points) for k, line in zip(steps, lines, strict=True))
        charts.append(Chart(f"Pull of {name}", named, note=note))
    return tuple(chart for chart in charts if any(series.points for series in chart.series))


def _events(metrics: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    events = [m for m in metrics if m["phase"] == "event"]
    told = [event_words(m) if "kind" in m else pull_words(m) for m in events[:EVENTS]]
    return (*told, *([f"{len(events) - EVENTS} more in metrics.jsonl."] if len(events) > EVENTS else []))


def _series(lines: Sequence[Mapping[str, Any]], key: str) -> Series:
    points = [(m["iteration"], m[key]) for m in lines if isinstance(m.get(key), int | float)]
    return Series(_words(key), points)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _counts(trained: Sequence[Mapping[str, Any]]) -> tuple[Counts, ...]:
    if not trained:
        return ()
    last = trained[-1]
    steps: dict[str, int] = {}
    for m in trained:
        name = f"step {m['student_step']}"
        steps[name] = steps.get(name, 0) + 1
    found = (
        Counts("Samples by task", dict(last["tasks"])),
        Counts("Samples by category", dict(last["categories"])),
        Counts("Iterations by student step", dict(sorted(steps.items())), "Step 0 is the noisiest."),
    )
    return tuple(counts for counts in found if counts.counts)


def _shares(run: RunDir, trained: Sequence[Mapping[str, Any]]) -> tuple[ShareTable, ...]:
    """Declared and realised shares of tasks, and of categories that have a share in the recipe."""
    if not trained:
        return ()
    r, last = run.recipe, trained[-1]
    done = last["iteration"] + 1
    tasks = declared_tasks(r.mixture, done)
    rows = [_share_row(task, share, last["tasks"], task) for task, share in tasks.items()]
    for task in tasks:
        seen = {name: n for name, n in last["categories"].items() if name.startswith(f"{task}/")}
        declared = declared_categories(r.mixture, r.data, task, done)
        rows += [_share_row(f"{task}, {name}", share, seen, f"{task}/{name}") for name, share in declared.items()]
    note = f"Shares of the samples after {done:,} iterations; categories as shares of their task."
    return (ShareTable("Declared and realised", tuple(rows), note),)


def _share_row(name: str, declared: Fraction, seen: Mapping[str, int], key: str) -> tuple[str, str, str]:
    count, total = seen.get(key, 0), sum(seen.values())
    return name, f"{100 * float(declared):.1f} %", f"{100 * count / max(total, 1):.1f} % ({count:,} of {total:,})"


def _minutes(metrics: Sequence[Mapping[str, Any]]) -> float:
    return sum(float(m["seconds"]["iteration"]) for m in metrics if "seconds" in m) / 60


def _facts(
    run: RunDir, command: str, minutes: float, machine: str, found: Mapping[str, Any] | None
) -> tuple[tuple[str, str], ...]:
    starts = run.environment()
    last = starts[-1] if starts else {}
    where = machine or ", ".join(
        str(part)
        for part in (last.get("device"), f"{last.get('processors')} processors", last.get("platform"))
        if part is not None
    )
    facts = [
        ("Command", command),
        ("Noise levels", ", ".join(f"{s:g}" for s in run.recipe.student.grid) + ", 0"),
        ("Guidance of the student", "none"),
        ("Machine", where),
        ("Training time", f"{minutes:.1f} minutes in {max(1, len(starts))} start{'s' if len(starts) > 1 else ''}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in last.get("versions", {}).items())),
        ("Seed", str(run.recipe.run.seed)),
    ]
    if found:
        paper = found["paper"]
        facts.append(
            ("Examination", f"{paper['cases']} held-out cases of each category and kind, from seed {paper['seed']}")
        )
        for name, system in found["systems"].items():
            facts.append((f"System “{name}”", system_description(system)))
    return tuple((name, value) for name, value in facts if value)
