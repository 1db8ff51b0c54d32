"""Which of torchrun's processes says why a command ended: the first that has something to say.

All of them meet the same refusal, and when one ends the others lose it in the middle of a sentence. torchrun's own
process keeps a store that outlives its workers; whoever counts to one in it speaks.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(seconds=30)  # ours: the store is on this network, or it is gone


def agent_store(environment: Mapping[str, str] = os.environ) -> Any:
    """The store of torchrun's own process, kept apart for each life of its workers; None outside torchrun."""
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import PrefixStore, TCPStore

    store = TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), timeout=PATIENCE)
    return PrefixStore(f"fewstep {environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def speaks(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one; True outside torchrun, and where its store cannot be asked. The others of a
    torchrun are told no. To be asked once, at the end."""
    try:
        store = agent_store(environment)
    except (RuntimeError, KeyError, ValueError):
        return True
    return store is None or store.add("speaks", 1) == 1
