"""Words on pictures: wrapped to a width, in a font that has their letters.

Pillow's own font has Latin letters only. So words are drawn in the first font that has all of their letters: Pillow's,
one that is usual for its many letters, or any other that is installed on this machine. A letter that no font has is a
box.
"""

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SIZE = 14  # px
ABSENT = "\U0010fffe"  # no character: a font shows it as it shows every letter that it does not have
INSTALLED = (  # as Linux, macOS and Windows name the files; tried before any other that is there
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "STHeiti Light.ttc",
    "msyh.ttc",
    "simsun.ttc",
    "malgun.ttf",
    "Arial Unicode.ttf",
)
FOLDERS = {
    "linux": ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts"),
    "darwin": ("~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts"),
    "win32": (os.path.join(os.environ.get("WINDIR", "C:/Windows"), "Fonts"),),
}
ENDINGS = (".ttf", ".otf", ".ttc", ".otc")
MOST = 300  # ours: font files that are tried, in the order of their names


def drawable(words: str) -> tuple[str, Font] | None:
    """The words and a font that has their letters. If no font has, the words without accents, and with plain dashes;
    None if that does not help either."""
    for told in (words, _plain(words)):
        if (font := font_for(told)) is not None:
            return told, font
    return None


def nearest_font(words: str) -> Font:
    """The font that lacks the fewest letters of the words, and draws a box for each of these."""
    letters = _letters(words)
    return min([*_fonts(), *_others()], key=lambda font: sum(not _has(font, letter) for letter in letters))


def _plain(words: str) -> str:
    apart = unicodedata.normalize("NFKD", words)
    return "".join("-" if unicodedata.category(c) == "Pd" else c for c in apart if not unicodedata.combining(c))


def font_for(words: str) -> Font | None:
    """The first font that has every letter of `words`; None if no font here has."""
    letters = _letters(words)
    known = next((font for font in _fonts() if all(_has(font, letter) for letter in letters)), None)
    if known is not None:
        return known
    return next((font for font in _others() if all(_has(font, letter) for letter in letters)), None)


def _letters(words: str) -> set[str]:
    return {letter for letter in words if letter.isprintable() and not letter.isspace()}


def wrapped(words: str, font: Font, width: float, lines: int) -> list[str]:
    """At most `lines` lines of at most `width` px. A word that is wider, as a whole sentence of a script without spaces
    is, is broken between letters. If it does not fit, the last line ends in "..."."""
    found = [line for paragraph in words.splitlines() for line in _broken(paragraph, font, width)]
    if len(found) <= lines:
        return found
    last = found[lines - 1]
    while last and font.getlength(f"{last}...") > width:
        last = last[:-1]
    return [*found[: lines - 1], f"{last}..."]


def _broken(words: str, font: Font, width: float) -> Iterator[str]:
    line = ""
    for word in words.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        line = ""
        for letter in word:
            if line and font.getlength(line + letter) > width:
                yield line
                line = ""
            line += letter
    if line:
        yield line


@cache
def _fonts() -> tuple[Font, ...]:
    return (ImageFont.load_default(SIZE), *_opened(INSTALLED))


@cache
def _others() -> tuple[Font, ...]:
    """Every other font of this machine, plain ones first. Opened only where the usual ones lack a letter."""
    folders = (Path(folder).expanduser() for folder in FOLDERS.get(sys.platform, ()))
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS]
    known = {Path(str(font.path)).name for font in _fonts() if isinstance(font, ImageFont.FreeTypeFont)}
    others = [path for path in files if path.name not in known]
    return _opened([str(path) for path in sorted(others, key=_order)[:MOST]])


def _order(path: Path) -> tuple[bool, bool]:
    """Usual ones first, then plain ones."""
    return path.name not in INSTALLED, any(
        word in path.stem.lower() for word in ("bold", "italic", "oblique", "black", "light", "thin", "mono")
    )


def _opened(names: tuple[str, ...] | list[str]) -> tuple[Font, ...]:
    found: list[Font] = []
    for name in names:
        try:
            found.append(ImageFont.truetype(name, SIZE))
        except OSError:  # not here, or of pictures of one size only, as those of emoji are
            continue
    return tuple(found)


@cache
def _has(font: Font, letter: str) -> bool:
    return _shape(font, letter) != _shape(font, ABSENT)


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
