"""Python's own random generator, made from a name, for random choices that are not tensors."""

import hashlib
import random


def seeded_random(*name: object) -> random.Random:
    """A generator that depends on its name alone. It is the same on every machine, whatever was drawn before."""
    digest = hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))
