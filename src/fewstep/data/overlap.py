"""Prompts that training and a benchmark share: a run of n equal words, the usual measure of contamination."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.data.cases import Case
from fewstep.data.formats.lines import numbered_lines, record_of_json
from fewstep.data.key_roles import ALIASES
from fewstep.data.words import ngrams, words_of
from fewstep.runtime.errors import CaseError

PROMPT_FILES = (".jsonl", ".ndjson", ".txt")


@dataclass(frozen=True)
class Overlap:
    """The case at `where` and the benchmark's prompt at `suite` have these words in common."""

    where: str
    suite: str
    words: str


def overlaps(cases: Iterable[Case], suite: Iterable[tuple[str, str]]) -> list[Overlap]:
    """The cases that share an n-gram with a prompt of the suite (place, prompt), each with the first prompt that
    matches. A prompt of fewer than N words matches only an equal one."""
    held: dict[tuple[str, ...], str] = {}
    for place, prompt in suite:
        for gram in ngrams(words_of(prompt)):
            held.setdefault(gram, place)
    found = []
    for case in cases:
        gram = next((gram for gram in ngrams(words_of(case.prompt)) if gram in held), ())
        if gram:
            found.append(Overlap(case.where, held[gram], " ".join(gram)))
    return found


def suite_prompts(path: Path) -> list[tuple[str, str]]:
    """(place, prompt) of a suite's folder (its cases.jsonl, or every file of prompts in it), or of one such file. Lines
    without a prompt are skipped as notes.

    Raises:
        CaseError: nothing there, another format, or no prompt in it.
    """
    files = [path]
    if path.is_dir():
        own = path / "cases.jsonl"
        files = [own] if own.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in PROMPT_FILES)
    found = [pair for file in files for pair in _prompts(file)]
    if not found:
        raise CaseError(f"{path}: no prompts in it; name a suite's folder, a .jsonl file, or a .txt with one a line")
    return found


def _prompts(file: Path) -> Iterator[tuple[str, str]]:
    if file.exists() and file.suffix.lower() not in PROMPT_FILES:
        raise CaseError(f"{file}: a suite's prompts come as .jsonl or .txt; fewstep cases convert makes a .jsonl of it")
    for number, line in numbered_lines(file):
        where = f"{file}:{number}"
        if isinstance(line, CaseError):
            raise line
        prompt = line if file.suffix.lower() == ".txt" else _stated(record_of_json(line, where))
        if prompt is not None:
            yield where, prompt


def _stated(record: Mapping[str, Any]) -> str | None:
    return next((record[name] for name in ALIASES["prompt"] if isinstance(record.get(name), str)), None)
