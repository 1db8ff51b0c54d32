"""A picture to edit, and what is known of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fewstep.data.pictures import file_digest
from fewstep.data.prompts.prompt_tags import PromptTags, tags_of


@dataclass(frozen=True)
class EditSource:
    """A picture. prompt: what it was made from, or its caption; category: landscape, portrait or text where known."""

    path: Path
    prompt: str | None = None
    category: str | None = None

    @cached_property
    def prompt_tags(self) -> PromptTags:
        return tags_of(self.prompt, self.category)

    @cached_property
    def name(self) -> str:
        """A hash of the file's bytes: the same picture has the same name wherever it lies."""
        return file_digest(self.path)
