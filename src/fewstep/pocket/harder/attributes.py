"""The harder world in tables: categories, attributes, their values, and the phrase that names each value.

Everything else follows from these tables: scenes, captions of any length, edits, what a probe is asked. An attribute
whose value is NONE names what is not there. Attributes marked `quiet` (light, pose) are rarely named, so that a prompt
usually leaves them to the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

NONE = "none"


@dataclass(frozen=True)
class Attribute:
    """name: as it is asked of a probe; phrases: value -> how a caption says it; quiet: seldom named by a caption."""

    name: str
    phrases: dict[str, str]
    quiet: bool = False

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.phrases)


def article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def phrases_of(pattern: str, *values: str) -> dict[str, str]:
    """`{}` becomes the value, `{a}` the value with its article."""
    return {value: pattern.replace("{a}", article(value)).replace("{}", value) for value in values}


COUNTS = ("one", "two", "three")
PAINTS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple")
WALLS = ("blue", "teal", "green", "pink", "orange", "purple", "grey", "brick")
LIGHT = Attribute("light", phrases_of(" lit from the {}", "left", "right"), quiet=True)

LANDSCAPE = (
    Attribute(
        "time",
        {
            "day": " by day",
            "dawn": " at dawn",
            "sunset": " at sunset",
            "night": " at night",
            "storm": " before a storm",
        },
    ),
    Attribute(
        "ground",
        {
            "grass": " over grass",
            "wheat": " over a field of wheat",
            "sand": " over sand",
            "snow": " over snow",
            "sea": " over the sea",
        },
    ),
    Attribute(
        "hills",
        {
            "green": " with green hills",
            "grey": " with grey mountains",
            "snowy": " with snowy mountains",
            "purple": " with purple mountains",
            NONE: " with a flat horizon",
        },
    ),
    Attribute("body", {"sun": " under a sun", "moon": " under a moon", NONE: " under an empty sky"}),
    Attribute("weather", {"clear": " in clear air", "clouds": " with clouds", "mist": " in mist"}),
    Attribute(
        "thing",
        {"house": " house", "tree": " tree", "boat": " boat", "tower": " lighthouse", NONE: " nothing else"},
    ),
    Attribute("colour", {**phrases_of(" {}", "red", "blue", "yellow", "green", "orange", "white"), NONE: ""}),
    Attribute("count", {**phrases_of(" {}", *COUNTS), NONE: ""}),
    Attribute("place", {"left": " on the left", "middle": " in the middle", "right": " on the right", NONE: ""}),
    LIGHT,
    Attribute("pose", phrases_of(" seen from the {}", "west", "north", "east"), quiet=True),
)

PORTRAIT = (
    Attribute("skin", phrases_of(" with {} skin", "pale", "tan", "brown", "dark")),
    Attribute("hair", phrases_of(" {} hair", "black", "brown", "blond", "red", "white", "blue")),
    Attribute("style", phrases_of(" {}", "short", "long", "curly", "tied", "spiky")),
    Attribute("glasses", {"round": " wearing round glasses", "dark": " wearing sunglasses", NONE: " without glasses"}),
    Attribute("mood", phrases_of(" {}", "smiling", "frowning", "gasping", "calm")),
    Attribute("hat", {"cap": " cap", "beanie": " beanie", "sunhat": " sun hat", NONE: " without a hat"}),
    Attribute("hat_colour", {**phrases_of(" {}", "red", "blue", "green", "yellow", "white"), NONE: ""}),
    Attribute("garment", phrases_of(" {}", "shirt", "jumper", "coat")),
    Attribute("clothes", phrases_of(" {}", "red", "blue", "green", "yellow", "white", "black")),
    Attribute("wall", phrases_of(" before {a} wall", *WALLS)),
    LIGHT,
    Attribute("pose", phrases_of(" seen from the {}", "left", "front", "right"), quiet=True),
)

SIGN = (
    Attribute("shape", phrases_of(" shaped as {a}", "board", "oval", "arrow", "shield")),
    Attribute("board", phrases_of(" painted {}", "red", "blue", "green", "white", "yellow", "black")),
    Attribute("material", phrases_of(" made of {}", "wood", "metal", "plaster")),
    Attribute("ink", phrases_of(" {}", "white", "black", "yellow", "red")),
    Attribute("size", phrases_of(" {}", "large", "small")),
    Attribute("wall", phrases_of(" before {a} wall", *WALLS)),
    LIGHT,
    Attribute("pose", phrases_of(" hung {}", "high", "low"), quiet=True),
)

STILL_LIFE = (
    Attribute("fruit", phrases_of(" {}", "apple", "pear", "orange", "plum")),
    Attribute("count", phrases_of(" {}", *COUNTS)),
    Attribute("colour", phrases_of(" {}", "red", "green", "yellow", "purple")),
    Attribute("side", {"left": " left of", "right": " right of", "front": " in front of"}),
    Attribute("vessel", phrases_of(" {}", "cup", "vase", "bottle", "bowl")),
    Attribute("paint", phrases_of(" {}", "blue", "white", "red", "green", "yellow")),
    Attribute("material", phrases_of(" {}", "clay", "glass", "metal")),
    Attribute("table", phrases_of(" on a {} table", "wooden", "white", "dark", "checked")),
    Attribute("wall", phrases_of(" before {a} wall", *WALLS)),
    LIGHT,
    Attribute("pose", phrases_of(" from {}", "afar", "near"), quiet=True),
)

CATEGORIES: dict[str, tuple[Attribute, ...]] = {
    "landscape": LANDSCAPE,
    "portrait": PORTRAIT,
    "text": SIGN,
    "still-life": STILL_LIFE,
}

CATEGORY_NAMES = {"landscape": "landscapes", "portrait": "portraits", "text": "signs", "still-life": "still lives"}

GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789?&+#$%"  # forty that can be told apart: no 0, 1 or !
LONGEST_WORD = 6
INKS_ON: dict[str, tuple[str, ...]] = {  # pairs that read well
    "red": ("white", "black", "yellow"),
    "blue": ("white", "yellow"),
    "green": ("white", "black", "yellow"),
    "white": ("black", "red"),
    "yellow": ("black", "red"),
    "black": ("white", "yellow", "red"),
}
THING_COLOURS: dict[str, tuple[str, ...]] = {
    "house": ("red", "blue", "yellow", "green"),
    "tree": ("green", "orange", "yellow", "red"),
    "boat": ("red", "white", "yellow", "blue"),
    "tower": ("red", "blue", "white", "green"),
    NONE: (NONE,),
}
FRUIT_COLOURS: dict[str, tuple[str, ...]] = {
    "apple": ("red", "green", "yellow"),
    "pear": ("green", "yellow", "red"),
    "orange": ("yellow", "red"),
    "plum": ("purple", "red", "green"),
}


def attribute(category: str, name: str) -> Attribute:
    return next(each for each in CATEGORIES[category] if each.name == name)
