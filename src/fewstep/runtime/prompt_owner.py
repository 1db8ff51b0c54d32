"""Whose prompt is read, where a case has one for the teachers beside the student's. Without any import of weight."""

from typing import Literal

PromptOwner = Literal["student", "teacher"]
