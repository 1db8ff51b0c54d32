"""What `fewstep bench score` does and prints."""

import re
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fewstep.backbones.folder import read_json
from fewstep.backbones.lpips import KIND, Lpips
from fewstep.backbones.scorers import Scorer
from fewstep.bench import statistics
from fewstep.bench.gallery import open_gallery
from fewstep.bench.metrics import model_metrics
from fewstep.bench.metrics.measurements import metric_path
from fewstep.cli.verbs.model_metrics import score_gallery as scored_gallery
from fewstep.runtime.device import resolve_device
from fewstep.runtime.errors import ModelError


def score_and_print(gallery: Path, model: Path, name: str | None, device: str, console: Console) -> None:
    open_gallery(gallery)
    if not model.is_dir():
        raise ModelError(f"{model} is no folder; scorers are loaded from local folders, nothing is fetched")
    called = re.sub(r"[^\w-]", "-", name or model.resolve().name)
    scorer = _opened(model, device)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(called, total=None)
        found = scored_gallery(
            gallery, scorer, called, lambda done, of: progress.update(task, completed=done, total=of)
        )
    table = Table("metric", "unit", "mean (95 %)", "n")
    for value, about in model_metrics.VALUES.items():
        known = [each for each in found if value in each.values]
        mean = statistics.mean([each.values[value] for each in known], [each.case for each in known])
        if mean.value is not None:
            interval = "" if mean.low is None else f" ({mean.low:.3f} .. {mean.high:.3f})"
            table.add_row(f"{called}.{value}", about.unit, f"{mean.value:.3f}{interval}", f"{mean.n:,}")
    console.print(table)
    console.print(f"Records: {metric_path(gallery, called)}", highlight=False, soft_wrap=True)


def _opened(folder: Path, device: str) -> Scorer | Lpips:
    kind = read_json(folder / "config.json").get("model_type")
    return (Lpips if kind == KIND else Scorer)(folder, resolve_device(device))
