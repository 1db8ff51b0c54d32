"""Which of torchrun's processes says why a command ended: the first that has something to say.

All of them meet the same refusal, and when one ends the others lose it in the middle of a sentence. torchrun's own
process keeps a store that outlives its workers; whoever counts to one in it speaks.
"""

import os
from collections.abc import Mapping


def reports_error(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one; True outside torchrun, and where its store cannot be asked. The others of a
    torchrun are told no. To be asked once, at the end."""
    from fewstep.runtime.parallel import agent_store

    try:
        store = agent_store(environment)
    except (RuntimeError, KeyError, ValueError):
        return True
    return store is None or store.add("speaks", 1) == 1
