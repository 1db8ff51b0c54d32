"""What torchrun's environment variables tell its workers, read without torch."""

import os
from collections.abc import Mapping


def has_agent_store(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a worker of a torchrun that keeps a store for its workers."""
    return environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
