"""The conditioning store: text embeddings and reference latents, encoded once and kept on disk.

    store.json              the backbone's fingerprint; a store serves one text encoder and one VAE
    index.jsonl             one line for each shard: its file, its size, and what is in it
    shard-*.safetensors     text embeddings, bf16, text positions only; reference latents as they came from the VAE

Reference latents are stored once for each (pictures, size): a caption and its unconditional branch share them. A shard
is written completely, synced and renamed before its line is added to the index. So an incomplete shard is not in the
index, or does not have the size that its line says. It is skipped, and its cases count as not encoded.
"""

import hashlib
import json
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout
from fewstep.runtime import durable
from fewstep.runtime.errors import StoreError

FORMAT = 1  # raise when an older store could not be read
SHARD_BYTES = 128 * 2**20  # at 7 B a prompt takes about 1 MB, a reference of 1024 px 0.5 MB
SHARD_ENTRIES = 512
OPEN_SHARDS = 16


class StoreKey(NamedTuple):
    """The names of a conditioning's text and of its reference latents. latents is None without references."""

    text: str
    latents: str | None


@dataclass(frozen=True)
class StoreEntry:
    """The shard of one conditioning's text, and what is known of it without reading. length: its text positions."""

    shard: str
    layout: Layout
    length: int
    latents: str | None


class ConditioningStore:
    """A folder of conditionings. The key of each is made from all that determines it.

    Args:
        folder: created if it does not exist.
        fingerprint: of the backbone that encodes. The store of another backbone is refused.

    Raises:
        StoreError: the folder holds another backbone's store, another format, or something else.
    """

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder
        self.fingerprint = fingerprint
        self.torn_shards: list[str] = []  # shards that were passed over
        self._entries: dict[str, StoreEntry] = {}
        self._latents: dict[str, str] = {}  # name of latents -> shard
        self._pending: dict[StoreKey, Conditioning] = {}
        self._pending_bytes = 0
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._claim()
        self._read_index()

    def key(self, prompt: str, references: Sequence[str], size: tuple[int, int]) -> StoreKey:
        """The key of a prompt.

        All prompts with the same pictures and size share the latents' part of it.

        Args:
            references: the digests of the pictures, in order.
            size: height and width of the target in px.
        """
        about = tuple(references), tuple(size)
        return StoreKey(self._hashed("text", prompt, *about), self._hashed("latents", *about) if references else None)

    def has(self, key: StoreKey) -> bool:
        return key.text in self._entries or key in self._pending

    def layout(self, key: StoreKey) -> Layout:
        """The layout of a conditioning, without reading any tensor."""
        held = self._pending.get(key)
        return held.layout if held is not None else self._entry(key).layout

    def length(self, key: StoreKey) -> int:
        """The number of text positions, without reading any tensor."""
        held = self._pending.get(key)
        return held.text_BLC.shape[1] if held is not None else self._entry(key).length

    def add(self, key: StoreKey, cond: Conditioning) -> None:
        """Keeps one conditioning (batch of 1) until the next `flush`; a full shard is flushed at once."""
        assert len(cond) == 1, len(cond)
        assert (key.latents is None) == (cond.references_BRD is None), key
        if self.has(key):
            return
        self._pending[key] = _kept(cond)
        self._pending_bytes += tensor_bytes(self._pending[key])
        if self._pending_bytes >= SHARD_BYTES or len(self._pending) >= SHARD_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last flush. Once it returns, none of that can be lost.

        Raises:
            EnvironmentRefused: no space, or no permission. The store is as it was before.
        """
        if not self._pending:
            return
        shard = f"shard-{uuid.uuid4().hex[:16]}.safetensors"
        tensors, texts = self._gathered()
        path = self.folder / shard
        durable.write_atomically(path, save(tensors))
        line = {
            "shard": shard,
            "bytes": path.stat().st_size,
            "texts": texts,
            "latents": [name for name in tensors if name not in texts],
        }
        durable.append_jsonl(self.folder / "index.jsonl", line)
        self._take(line)
        self._pending, self._pending_bytes = {}, 0

    def load(self, key: StoreKey) -> Conditioning:
        """One conditioning, batch of 1, on the CPU.

        Raises:
            StoreError: it is not there, or its shard cannot be read.
        """
        if key in self._pending:
            return self._pending[key]
        entry = self._entry(key)
        text_BLC = self._tensor(entry.shard, key.text)
        references_BRD = None if key.latents is None else self._tensor(self._latents[key.latents], key.latents)
        return Conditioning(text_BLC, torch.ones(text_BLC.shape[:2], dtype=torch.bool), entry.layout, references_BRD)

    def __len__(self) -> int:
        return len(self._entries) + len(self._pending)

    # ---- the folder

    def _claim(self) -> None:
        """Reads store.json, or writes it into a folder that is empty."""
        path = self.folder / "store.json"
        durable.make_folder(self.folder)
        if not path.exists():
            strange = [other.name for other in self.folder.iterdir() if not other.name.endswith(".tmp")]
            if strange and not path.exists():  # another process may just have made the store
                raise StoreError(f"{self.folder} is no conditioning store ({min(strange)} is in it); choose another")
            durable.write_atomically(path, json.dumps({"format": FORMAT, "fingerprint": self.fingerprint}) + "\n")
        try:
            held = json.loads(path.read_text())
            made_by, form = held["fingerprint"], held["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} cannot be read; remove {self.folder} and encode again") from error
        if form != FORMAT:
            raise StoreError(f"{self.folder} has format {form}, this version reads {FORMAT}; remove it, encode again")
        if made_by != self.fingerprint:
            raise StoreError(
                f"{self.folder} was encoded by another model ({made_by}, this one is {self.fingerprint}): text "
                "encoder, processor or VAE differ, or fewstep stored this family otherwise then. Choose another "
                "`store`, or remove this one"
            )

    def _read_index(self) -> None:
        for line in durable.read_jsonl(self.folder / "index.jsonl"):
            try:
                path = self.folder / line["shard"]
                if path.is_file() and path.stat().st_size == line["bytes"]:
                    self._take(line)
                else:
                    self.torn_shards.append(str(line["shard"]))
            except (KeyError, TypeError, ValueError):
                continue  # a line of another version: what it names counts as not encoded
        whole = {None, *self._latents}
        self._entries = {text: entry for text, entry in self._entries.items() if entry.latents in whole}

    def _take(self, line: dict[str, Any]) -> None:
        """Adds what an index line names to what counts as encoded."""
        shard = str(line["shard"])
        texts = {key: _entry_of(shard, note) for key, note in line["texts"].items()}
        self._latents |= dict.fromkeys(line["latents"], shard)
        self._entries |= texts

    def _gathered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of the next shard, and its index entries by key."""
        tensors: dict[str, Tensor] = {}
        texts: dict[str, Any] = {}
        for key, cond in self._pending.items():
            tensors[key.text] = cond.text_BLC
            if key.latents is not None and cond.references_BRD is not None and key.latents not in self._latents:
                tensors[key.latents] = cond.references_BRD
            texts[key.text] = _note_of(cond, key.latents)
        return tensors, texts

    def _tensor(self, shard: str, name: str) -> Tensor:
        try:
            return self._opened(shard).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise StoreError(
                f"{self.folder / shard} cannot be read ({error}); remove that file and run fewstep encode again"
            ) from error

    def _opened(self, shard: str) -> Any:
        """The shard, mapped into memory; the latest few stay open."""
        if shard not in self._open:
            self._open[shard] = safe_open(self.folder / shard, framework="pt")
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]

    def _entry(self, key: StoreKey) -> StoreEntry:
        if key.text not in self._entries:
            raise StoreError(f"{self.folder} lacks a conditioning ({key.text}); run fewstep encode with this recipe")
        return self._entries[key.text]

    def _hashed(self, *parts: Any) -> str:
        return hashlib.blake2b(repr((self.fingerprint, *parts)).encode(), digest_size=16).hexdigest()


def tensor_bytes(cond: Conditioning) -> int:
    """The bytes of the tensors of a conditioning."""
    return sum(x.nbytes for x in (cond.text_BLC, cond.references_BRD) if x is not None)


def _kept(cond: Conditioning) -> Conditioning:
    """The conditioning as it is stored: valid text positions only, bf16, on the CPU."""
    length = int(cond.mask_BL.sum())
    assert bool(cond.mask_BL[0, :length].all()), "text is padded on the right"
    references = cond.references_BRD
    return Conditioning(
        cond.text_BLC[:, :length].detach().to("cpu", torch.bfloat16).contiguous().clone(),
        torch.ones(1, length, dtype=torch.bool),
        cond.layout,
        None if references is None else references.detach().to("cpu").contiguous().clone(),
    )


def _note_of(cond: Conditioning, latents: str | None) -> dict[str, Any]:
    layout = cond.layout
    return {
        "length": cond.text_BLC.shape[1],
        "task": layout.task,
        "target": layout.target,
        "references": layout.references,
        "slots": layout.slots,
        "latents": latents,
    }


def _entry_of(shard: str, note: dict[str, Any]) -> StoreEntry:
    rows, columns = note["target"]
    grids = tuple((int(r), int(c)) for r, c in note["references"])
    layout = Layout(note["task"], (int(rows), int(columns)), grids, tuple(map(int, note["slots"])))
    return StoreEntry(shard, layout, int(note["length"]), note["latents"])
