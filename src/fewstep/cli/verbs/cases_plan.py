"""What `fewstep cases plan` prints: which of its cases a recipe's run will see."""

from collections.abc import Hashable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fewstep.backbones.conditioning_estimate import ConditioningEstimate, estimate_conditioning
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.sample_counts import SampleCounts, count_samples
from fewstep.encode.estimate import (
    LATENT_BYTES,
    StoreSize,
    kind_of,
    store_size,
)
from fewstep.encode.layouts import count_layouts
from fewstep.encode.long_text import refuse_long_text
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.run.composition import recipe_composition
from fewstep.run.idle_teachers import refuse_idle_teachers
from fewstep.run.recipe import Recipe


def plan_cases(recipe: Recipe, out: Path, console: Console) -> None:
    """Prints what the recipe's run will see, and the size of its store. Archives are unpacked and pocket cases drawn
    where the run will look for them; nothing is loaded or encoded.

    Raises:
        RecipeError: a teacher's categories match no case.
        CaseError: a source that cannot be read, or a prompt that is longer than the model reads.
    """
    store_folder = recipe.store_folder(out)
    outline = estimate_conditioning(recipe.model)
    remarks: list[str] = []
    with console.status("reading cases"):
        composition = recipe_composition(recipe, store_folder / "cases", outline, remarks.append)
    refuse_idle_teachers(recipe.teachers, recipe.student.steps, composition)
    refuse_long_text(composition.cases(), outline, recipe.size)

    def kind(case: Case) -> Hashable:
        return kind_of(case, outline, recipe.size)

    seen = count_samples(composition, recipe.run.iterations, recipe.run.batch, recipe.run.seed, kind)
    console.print(_batches(seen, recipe), _categories(seen), _sources(seen, recipe))
    console.print(_store_words(composition, recipe, outline, store_folder), highlight=False, soft_wrap=True)
    for task in composition.tasks:
        if words := count_layouts(composition, task, kind, recipe.run.batch).words():
            console.print(escape(words), highlight=False, soft_wrap=True)
    for remark in remarks:
        console.print(f"[yellow]{escape(remark)}[/]", highlight=False, soft_wrap=True)


def _batches(seen: SampleCounts, recipe: Recipe) -> Table:
    table = Table("iterations", "t2i:edit", "t2i", "edit", title=f"batches of {recipe.run.batch}, by task")
    for stretch in seen.phases:
        counts = [f"{stretch.batches[task]:,}" for task in ("t2i", "edit")]
        table.add_row(f"{stretch.start:,} to {stretch.end - 1:,}", stretch.ratio, *counts)
    return _right(table, 2)


def _categories(seen: SampleCounts) -> Table:
    total = sum(seen.categories.values())
    table = Table("task", "category", "samples", "share", title=f"{total:,} samples, by category")
    for (task, category), count in seen.categories.items():
        table.add_row(task, escape(category), f"{count:,}", f"{100 * count / total:.1f} %")
    return _right(table, 2)


def _sources(seen: SampleCounts, recipe: Recipe) -> Table:
    table = Table("task", "source", "samples", "cases", "seen", "epochs", title="samples, by source")
    table.columns[1].overflow = "fold"  # the end of a path is more informative than its beginning
    for part in seen.sources:
        name = recipe.data.sources(part.task)[part.source].source
        counts = (f"{count:,}" for count in (part.samples, part.available, part.distinct))
        table.add_row(part.task, escape(name), *counts, f"{part.epochs:.2f}")
    return _right(table, 2)


def _store_words(composition: Composition, recipe: Recipe, outline: ConditioningEstimate, store_folder: Path) -> str:
    size = store_size(
        composition.cases(),
        outline,
        size=recipe.size,
        negatives=recipe.negatives(composition.tasks, NO_GUIDANCE),
        latent_bytes=LATENT_BYTES[recipe.run.precision],
    )
    return (
        f"conditioning store in {store_folder}: about [bold]{_bytes(size)}[/] for {size.conditionings:,} conditionings "
        f"and {size.references:,} sets of reference pictures. An estimate, from {outline.basis}"
    )


def _bytes(size: StoreSize) -> str:
    for unit, least in (("GB", 1e9), ("MB", 1e6)):
        if size.bytes >= least:
            return f"{size.bytes / least:.1f} {unit}"
    return f"{size.bytes / 1e3:.1f} kB"


def _right(table: Table, first: int) -> Table:
    for column in table.columns[first:]:
        column.justify = "right"
    return table
