"""Which code is here: our own source, and libraries as they are installed. None of it is imported for that."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path

import fewstep

MODELS = ("torch", "diffusers", "transformers", "peft")  # what runs a model, beside our own
READ = (".py", ".yaml")  # of our own package: what decides what is computed
# Variables that change what libraries compute, or which code of theirs runs.
TELLING = ("DIFFUSERS_", "TRANSFORMERS_", "TORCH_", "PYTORCH_", "ATEN_", "ONEDNN_", "DNNL_", "MKL_")


def code_hash(libraries: Sequence[str] = MODELS) -> str:
    """A hash of our own source, Python, these libraries, and the environment's variables that steer them."""
    h = hashlib.blake2b(digest_size=16)
    root = Path(fewstep.__file__).parent
    for file in sorted(path for path in root.rglob("*") if path.suffix in READ):
        h.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    steering = sorted((name, value) for name, value in os.environ.items() if name.startswith(TELLING))
    h.update(repr([sys.version, [library_code(name) for name in libraries], steering]).encode())
    return h.hexdigest()


def library_code(name: str) -> list[str]:
    """What tells one state of a library from another. The version does not suffice: a development version keeps its
    own from commit to commit. So an installed library is known by the list of its files with their hashes, which its
    installer wrote (RECORD), and one that is run from a checkout by the sizes and times of its source files."""
    installed, spec = metadata.distribution(name), util.find_spec(name)
    assert spec is not None, name
    folder = Path(str(spec.origin)).parent
    record = installed.read_text("RECORD")
    if record is not None and Path(str(installed.locate_file(name))).resolve() == folder.resolve():
        return [name, installed.version, hashlib.blake2b(record.encode(), digest_size=16).hexdigest()]
    return [name, installed.version, *sorted(_source_files(folder))]


def _source_files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        stat = path.stat()
        yield f"{path} {stat.st_size} {stat.st_mtime_ns}"
