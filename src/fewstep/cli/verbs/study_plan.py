"""`fewstep study plan`: the forecast of a study's work."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fewstep.study import costs
from fewstep.study.forecast import calls, minutes, picture_count
from fewstep.study.grid import StudyGrid
from fewstep.study.power import half_width, runs_needed


def _declared(grid: StudyGrid) -> list[str]:
    """The study's power, what its cells reset unnamed, and its premises."""
    told, power = [], grid.plan.power
    if power is not None:
        runs = len({run.seed for run in grid.runs})
        needed = runs_needed(power.smallest, power.spread)
        reach = half_width(runs, power.spread)
        told.append(
            f"{runs} {'run' if runs == 1 else 'runs'} of a cell: at a spread of {power.spread:g} between them, an "
            f"interval reaches {reach:.3f} to either side; {power.smallest:g} asks for {needed}."
        )
    told += grid.reset
    for premise in grid.plan.premises.values():
        bound = f"at most {premise.at_most:g}" if premise.at_least is None else f"at least {premise.at_least:g}"
        told.append(f"Premise: {premise.says} ({bound}).")
    return told


def print_forecast(grid: StudyGrid, to: Path, console: Console) -> None:
    """Prints the runs by number, and their cost."""
    rates = costs.rates(to)
    table = Table("no.", "run", "updates", "batch", "calls", "minutes", title=f"{grid.plan.name}, {grid.world}")
    for column in table.columns[2:]:
        column.justify = "right"
    total = 0.0
    for run in grid.runs:
        spent = minutes(run, rates)
        total += spent or 0
        each, r = calls(run.recipe), run.recipe.run
        told = f"{each.student:.3g} + {each.critic:.3g} + {each.teachers:.1f}"
        took = "?" if spent is None else f"{spent:.0f}"
        table.add_row(str(run.number), run.name, f"{r.iterations:,}", f"{r.batch}", told, took)
    console.print(table)
    asked, moments = picture_count(grid), len(grid.moments)
    console.print(
        f"calls: network calls a sample and update, student + critic + teachers (at most). "
        f"Job {len(grid.runs)}: the teachers ({', '.join(grid.teachers) or 'none'}), {asked:,} pictures each, once.\n"
        f"Each run is examined {moments} time{'s' if moments > 1 else ''} on the same {asked:,} cases "
        f"({asked * moments * len(grid.runs):,} pictures in all).",
        highlight=False,
    )
    for line in _declared(grid):
        console.print(line, highlight=False, markup=False)
    if rates:
        told = ", ".join(f"{task} {seconds:.2f} s" for task, seconds in rates.items())
        console.print(
            f"Training in all about {total / 60:.1f} h, at the rate measured here: {told} an update.", highlight=False
        )
    else:
        console.print("No rate was measured on this machine yet: add --measure for the hours.", highlight=False)
