"""Fresh processes of stock diffusers that need not import it: they are forked from one that did nothing else.

Every verified export starts two processes, which take seconds to import torch and diffusers and a tenth of one to draw.
In tests `sys.executable` is a small program (`client.py`). For the two programs of a verification it asks a process
that has imported the stock classes, and nothing of fewstep, to fork (`server.py`). For anything else it becomes the
real interpreter.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = """#!{python} -ISE
import runpy
runpy.run_path({client!r})["main"]({python!r}, {server!r}, {place!r})
"""


@contextmanager
def warm_python(folder: Path) -> Iterator[None]:
    """Inside, `sys.executable` is that program. The server starts when it is first asked, and ends with the block."""
    program, place = folder / "python", folder / "warm"
    told = {"client": str(HERE / "client.py"), "server": str(HERE / "server.py"), "place": str(place)}
    program.write_text(PROGRAM.format(python=sys.executable, **told))
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(program))
        try:
            yield
        finally:
            if (number := place.with_suffix(".pid")).exists():
                os.kill(int(number.read_text()), signal.SIGTERM)
