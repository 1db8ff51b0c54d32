"""The two things that one student does."""

from typing import Literal

Task = Literal["t2i", "edit"]  # text-to-image; editing by instruction
TASKS: tuple[Task, Task] = ("t2i", "edit")
