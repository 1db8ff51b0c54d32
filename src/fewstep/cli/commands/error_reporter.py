"""Which of torchrun's processes reports why a command ended: the first that has an error.

All of them meet the same refusal, and when one ends, the others are killed while writing. torchrun's own process keeps
a store that outlives its workers. The worker that counts to one in it reports the error.
"""

import os
from collections.abc import Mapping

from fewstep.runtime.torchrun import has_agent_store


def reports_error(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process reports the error. True outside torchrun, and if its store cannot be reached; False for the
    other workers of a torchrun. To be called once, at the end."""
    if not has_agent_store(environment):
        return True
    from fewstep.runtime.parallel import agent_store  # torch comes with it

    try:
        store = agent_store(environment)
    except (RuntimeError, KeyError, ValueError):
        return True
    return store.add("speaks", 1) == 1
