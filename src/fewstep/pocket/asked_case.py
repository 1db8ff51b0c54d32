"""What drawing needs to know of a case, whichever world it is of."""

from typing import Protocol

from PIL import Image


class AskedCase(Protocol):
    """What drawing needs to know of a case. size: height and width in px."""

    @property
    def id(self) -> str: ...

    @property
    def task(self) -> str: ...

    @property
    def category(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    @property
    def references(self) -> tuple[Image.Image, ...]: ...

    @property
    def size(self) -> tuple[int, int]: ...
