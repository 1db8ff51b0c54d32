"""The two tasks of a student."""

from collections.abc import Mapping
from typing import Literal

Task = Literal["t2i", "edit"]  # text-to-image; editing by instruction
TASKS: tuple[Task, Task] = ("t2i", "edit")
PAPER_CATEGORIES: Mapping[Task, tuple[str, ...]] = {  # of the paper's two benches
    "t2i": ("landscape", "portrait", "text"),
    "edit": ("scene", "perceptual", "object", "text", "identity", "style"),
}
