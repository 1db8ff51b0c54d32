"""A summary of one iteration in one line, for progress displays."""

from collections.abc import Mapping
from typing import Any


def summary(line: Mapping[str, Any]) -> str:
    """Task, student step, losses, gradient norms and seconds by part, from a line of metrics.jsonl. What the line lacks
    is left out."""
    parts = [str(line["task"])]
    if "student_step" in line:
        parts.append(f"step {line['student_step']}")
    for name in ("student_loss", "critic_loss", "student_norm", "critic_norm"):
        if name in line:
            value = line[name]
            parts.append(f"{name.replace('_', ' ')} {'not finite' if value is None else f'{value:.3g}'}")
    seconds = line["seconds"]
    parts.append(", ".join(f"{part} {taken:.2g} s" for part, taken in seconds.items() if part != "iteration"))
    return "; ".join(part for part in parts if part)
