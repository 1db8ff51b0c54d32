"""Where fewstep keeps what it can make again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """$FEWSTEP_CACHE, else `fewstep` in the user's cache folder. It need not exist."""
    own = os.environ.get("FEWSTEP_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fewstep"
