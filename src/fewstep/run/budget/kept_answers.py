"""Answers of `fewstep plan` that were given before. To count one again, torch, diffusers and transformers have to be
imported, which takes longer than all the rest.

They lie in the user's cache, a file of some kilobytes each: the hash of a text, and the text. A file that cannot be
read, or is not what was written, is as none: then it is counted.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from fewstep.runtime import durable
from fewstep.runtime.errors import FewstepError
from fewstep.runtime.user_cache import user_cache

FOLDER = "plans"
MOST = 200  # answers, ours: the oldest go


def read_answer(key: str) -> str | None:
    """The text that was kept under this key."""
    try:
        mark, _, text = _place(key).read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return text if mark == _mark(text) else None


def keep_answer(key: str, text: str) -> None:
    """Keeps it for `read_answer`, if the cache can be written."""
    place = _place(key)
    with suppress(OSError, FewstepError):  # a cache that is full or read-only costs time alone
        durable.make_folder(place.parent)
        durable.write_atomically(place, f"{_mark(text)}\n{text}")
        for old in sorted(place.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)[:-MOST]:
            old.unlink()


def _place(key: str) -> Path:
    return user_cache() / FOLDER / f"{key}.json"


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
