"""The same untrained teacher and reader as the world's own tests have."""

from tests.pocket.harder.conftest import harder_reader, harder_teacher

__all__ = ["harder_reader", "harder_teacher"]
