"""Which of torchrun's processes says why a command ended: the first that has something to say.

All of them meet the same refusal, and when one ends the others lose it in the middle of a sentence. torchrun's own
process keeps a store that outlives its workers; whoever counts to one in it speaks.
"""

import os
from collections.abc import Mapping

from fewstep.runtime.torchrun import has_agent_store


def reports_error(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one; True outside torchrun, and where its store cannot be asked. The others of a
    torchrun are told no. To be asked once, at the end."""
    if not has_agent_store(environment):
        return True
    from fewstep.runtime.parallel import agent_store  # torch comes with it

    try:
        store = agent_store(environment)
    except (RuntimeError, KeyError, ValueError):
        return True
    return store.add("speaks", 1) == 1
