"""Runs the code on a student's own card as a user would: word for word, in a fresh process without fewstep.

`verify` compares numbers in a dtype of its own. It cannot see that what the page says does not open the folder.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from fewstep.export.stock_process import refuse_killed
from fewstep.runtime.errors import ExportError

PLACEHOLDER, ON_GPU = "PATH_OF_THIS_FOLDER", '.to("cuda")'
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def card_code(folder: Path) -> str:
    """The first block of Python on the card.

    Raises:
        ExportError: there is no card, or no code on it.
    """
    card = folder / "README.md"
    found = _CODE.search(card.read_text(encoding="utf-8")) if card.is_file() else None
    if found is None:
        raise ExportError(f"{folder} has no README.md with code on it: export the student again")
    return found[1]


def run_card_code(folder: Path, size: tuple[int, int], device: str, timeout_seconds: float) -> str:
    """What the card's code made of this folder, in words. Off a GPU the code's own move to one is left out, and nothing
    else is changed.

    Args:
        size: height and width in px that the student was trained for.

    Raises:
        ExportError: the code fails, takes too long, or makes a picture of another size.
    """
    code = card_code(folder).replace(PLACEHOLDER, str(folder.resolve()))
    if not device.startswith("cuda"):
        code = code.replace(ON_GPU, "")
    with tempfile.TemporaryDirectory() as work:
        script, made = Path(work) / "card.py", Path(work) / "picture.png"
        script.write_text(f"{code}\npicture.save({str(made)!r})\n", encoding="utf-8")
        _run(script, folder, timeout_seconds)
        with Image.open(made) as picture:
            width, height = picture.size
    if (height, width) != size:
        raise ExportError(f"the code on the card of {folder} draws {height} x {width} px, not {size[0]} x {size[1]}")
    return f"the code on its card, word for word: a picture of {height} x {width} px"


def _run(script: Path, folder: Path, timeout_seconds: float) -> None:
    told = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(script)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=told, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"the code on the card of {folder} did not end in {timeout_seconds:.0f} s") from error
    refuse_killed(done.returncode, str(folder), bytes_a_weight=2)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(
            f"the code on the card of {folder} fails here: {last}. Where it names torchvision, see fewstep doctor"
        )
