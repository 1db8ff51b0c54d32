"""Python's own generator, made from a name: for drawings that are no tensors."""

import hashlib
import random


def seeded_random(*name: object) -> random.Random:
    """A generator that depends on its name alone: no history, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))
