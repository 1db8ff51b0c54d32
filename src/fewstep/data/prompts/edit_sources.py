"""Where the pictures to edit are found: in a cases file with target pictures, a gallery, or a folder of pictures with
or without captions."""

from collections.abc import Iterator
from pathlib import Path

from fewstep.data.cases import Case
from fewstep.data.picture_values import SUFFIXES
from fewstep.data.pictures import verify_picture
from fewstep.data.prompts.edit_source import EditSource
from fewstep.data.sources import cases_of, entries
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.runtime.task import PAPER_CATEGORIES

MANIFESTS = "manifest*.jsonl"


def read_edit_sources(source: Path, category: str | None = None) -> list[EditSource]:
    """The pictures of `source`, each once, in order. `category`: what the pictures show if they do not say so
    themselves.

    Raises:
        CaseError: no picture, or one that cannot be used.
    """
    if not source.exists():
        raise CaseError(f"{source}: there is no such file or folder; name cases with pictures, a gallery, or a folder")
    found = list({shown.path: shown for shown in _pictures(source)}.values())
    if not found:
        raise CaseError(
            f"{source}: no picture in it. Edits need pictures: a folder of them, a gallery (fewstep generate), or "
            "cases with a target_image"
        )
    for shown in found:
        verify_picture(shown.path, str(source))
    return [EditSource(s.path, s.prompt, s.category or category) for s in found]


def _pictures(source: Path) -> Iterator[EditSource]:
    if source.is_file():
        return _of_cases(source)
    return _of_gallery(source) if any(source.glob(MANIFESTS)) else _of_folder(source)


def _of_cases(source: Path) -> Iterator[EditSource]:
    for case in cases_of(entries(source, source.parent / f"{source.stem}-pictures"), str(source)):
        if case.target is not None:
            yield EditSource(case.target, *_known(case))


def _known(case: Case) -> tuple[str | None, str | None]:
    """The prompt and category of a text-to-image case. An edit's instruction says only what was changed, not what its
    target shows."""
    return (case.prompt, _category(case.category)) if case.task == "t2i" else (None, None)


def _of_gallery(folder: Path) -> Iterator[EditSource]:
    """The rows whose picture exists. A text-to-image row's prompt says what its picture shows."""
    for manifest in sorted(folder.glob(MANIFESTS)):
        for row in durable.read_jsonl(manifest):
            if isinstance(row.get("file"), str) and row.get("status", "drawn") == "drawn":
                t2i = row.get("task", "t2i") == "t2i"
                prompt, category = (row.get("prompt"), row.get("category")) if t2i else (None, None)
                yield EditSource(folder / row["file"], prompt, _category(category))


def _of_folder(folder: Path) -> Iterator[EditSource]:
    """Sub-folders too; one with a category's name says what its pictures show."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield EditSource(path, _caption(path), next(filter(None, map(_category, inner.parts[:-1])), None))


def _caption(path: Path) -> str | None:
    caption = path.with_suffix(".txt")
    try:
        return caption.read_text(encoding="utf-8").strip() or None if caption.is_file() else None
    except UnicodeDecodeError as error:
        raise CaseError(f"{caption}: is no UTF-8 text; save it as UTF-8") from error


def _category(name: object) -> str | None:
    return name if isinstance(name, str) and name in PAPER_CATEGORIES["t2i"] else None
