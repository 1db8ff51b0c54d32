"""Words on pictures: wrapped to a width, in a font that has their letters.

Pillow's own font has Latin letters only, and shows every other one as a box. So words are drawn in the first font that
has all of their letters: Pillow's, or one that is installed on this machine.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SIZE = 14  # px
ABSENT = "\U0010fffe"  # no character: a font shows it as it shows every letter that it does not have
INSTALLED = (  # as Linux, macOS and Windows name the files
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simsun.ttc",
    "malgun.ttf",
    "Arial Unicode.ttf",
)


def drawable(words: str) -> tuple[str, Font] | None:
    """The words and a font that has their letters. If no font has, the words without accents, and with plain dashes;
    None if that does not help either."""
    for told in (words, _plain(words)):
        if (font := font_for(told)) is not None:
            return told, font
    return None


def _plain(words: str) -> str:
    apart = unicodedata.normalize("NFKD", words)
    return "".join("-" if unicodedata.category(c) == "Pd" else c for c in apart if not unicodedata.combining(c))


def font_for(words: str) -> Font | None:
    """The first font that has every letter of `words`; None if no font here has."""
    letters = {letter for letter in words if letter.isprintable() and not letter.isspace()}
    return next((font for font in _fonts() if all(_has(font, letter) for letter in letters)), None)


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
    found: list[Font] = [ImageFont.load_default(SIZE)]
    for name in INSTALLED:
        try:
            found.append(ImageFont.truetype(name, SIZE))
        except OSError:
            continue
    return tuple(found)


@cache
def _has(font: Font, letter: str) -> bool:
    return _shape(font, letter) != _shape(font, ABSENT)


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
