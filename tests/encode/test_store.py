"""What was flushed is there, whatever happens afterwards; what is torn counts as not encoded."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from fewstep.backbones.conditioning import Conditioning
from fewstep.encode import store as store_module
from fewstep.encode.store import ConditioningStore, StoreKey
from fewstep.runtime.errors import EnvironmentRefused, StoreError
from tests.encode.made_cases import edit_conditioning, latents, t2i_conditioning
from tests.full_disk import full_disk

SIZE = (64, 64)


def opened(folder: Path) -> ConditioningStore:
    return ConditioningStore(folder, "print")


def put(store: ConditioningStore, prompt: str, seed: int, length: int = 5) -> StoreKey:
    key = store.key(prompt, (), SIZE)
    store.add(key, t2i_conditioning(seed, length))
    return key


def put_edit(store: ConditioningStore, prompt: str, picture: str, seed: int) -> StoreKey:
    key = store.key(prompt, (picture,), SIZE)
    store.add(key, edit_conditioning(seed, latents(sum(map(ord, picture)))))
    return key


def same(a: Conditioning, b: Conditioning) -> bool:
    texts = torch.equal(a.text_BLC, b.text_BLC.to(torch.bfloat16)) and a.layout == b.layout
    if a.references_BRD is None or b.references_BRD is None:
        return texts and a.references_BRD is b.references_BRD
    return texts and torch.equal(a.references_BRD, b.references_BRD)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.safetensors"))


def test_what_was_added_is_read_back_before_and_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    plain, edit = put(store, "a boat", 0), put_edit(store, "bluer", "p", 1)
    assert same(store.load(plain), t2i_conditioning(0))
    store.flush()
    for state in (store, opened(tmp_path)):
        assert same(state.load(plain), t2i_conditioning(0))
        assert same(state.load(edit), edit_conditioning(1, latents(ord("p"))))
        assert state.layout(edit).references == ((2, 4),)
        assert (state.length(plain), len(state)) == (5, 2)


def test_text_is_stored_in_bf16_without_padding_and_latents_as_they_are(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = store.key("a", (), SIZE)
    store.add(key, t2i_conditioning(0, length=5, padding=4))
    edit = put_edit(store, "b", "p", 1)
    store.flush()
    assert store.load(key).text_BLC.shape == (1, 5, 6)
    assert store.load(key).text_BLC.dtype == torch.bfloat16
    references = store.load(edit).references_BRD
    assert references is not None
    assert references.dtype == torch.float32


def test_prompts_about_the_same_picture_share_its_latents(tmp_path: Path) -> None:
    store = opened(tmp_path)
    keys = [put_edit(store, "a", "p", 0), put_edit(store, "", "p", 1)]
    store.flush()
    keys += [put_edit(store, "b", "p", 2), put_edit(store, "b", "q", 3)]
    store.flush()
    names: list[str] = []
    for shard in shards(tmp_path):
        with safe_open(shard, "pt") as tensors:
            names += tensors.keys()
    assert len(names) == 4 + 2
    assert keys[0].latents == keys[1].latents == keys[2].latents != keys[3].latents
    assert same(opened(tmp_path).load(keys[2]), edit_conditioning(2, latents(ord("p"))))


def test_a_key_is_all_that_determines_a_conditioning(tmp_path: Path) -> None:
    store, other = opened(tmp_path / "a"), ConditioningStore(tmp_path / "b", "other")
    keys = [
        store.key("a", (), SIZE),
        store.key("b", (), SIZE),
        store.key("a", (), (64, 96)),
        store.key("a", ("p",), SIZE),
        store.key("a", ("p", "q"), SIZE),
        store.key("a", ("q", "p"), SIZE),
        other.key("a", (), SIZE),
    ]
    assert len(set(keys)) == len(keys)
    assert store.key("a", ("p",), SIZE) == opened(tmp_path / "a").key("a", ["p"], SIZE)


def test_several_sizes_live_in_one_store(tmp_path: Path) -> None:
    store = opened(tmp_path)
    small, large = store.key("a", (), SIZE), store.key("a", (), (128, 64))
    store.add(small, t2i_conditioning(0))
    store.flush()
    assert store.has(small)
    assert not store.has(large)


def test_full_shards_are_written_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SHARD_ENTRIES", 3)
    store = opened(tmp_path)
    for n in range(7):
        put(store, str(n), n)
    assert len(opened(tmp_path)) == 6
    monkeypatch.setattr(store_module, "SHARD_BYTES", 1)
    put(store, "x", 9)
    assert len(opened(tmp_path)) == 8


def test_an_added_key_stays_as_it_was_first(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = put(store, "a", 0)
    put(store, "a", 1)
    store.flush()
    put(store, "a", 2)
    store.flush()
    assert len(shards(tmp_path)) == 1
    assert same(store.load(key), t2i_conditioning(0))


# ---- damage


def two_shards(folder: Path) -> list[StoreKey]:
    store = opened(folder)
    keys = []
    for n in range(2):
        keys.append(put_edit(store, f"prompt {n}", "p", n))
        store.flush()
    return keys


def test_a_torn_shard_and_what_depends_on_it_count_as_not_encoded(tmp_path: Path) -> None:
    keys = two_shards(tmp_path)
    with_latents = max(shards(tmp_path), key=lambda path: path.stat().st_size)
    with_latents.write_bytes(with_latents.read_bytes()[:-1])
    store = opened(tmp_path)
    assert not any(map(store.has, keys)), "the second text lies in a whole shard, its latents do not"
    assert store.torn_shards == [with_latents.name]
    for n in range(2):
        put_edit(store, f"prompt {n}", "p", n)
    store.flush()
    assert all(same(opened(tmp_path).load(key), edit_conditioning(n, latents(ord("p")))) for n, key in enumerate(keys))


def test_a_lost_shard_counts_as_not_encoded(tmp_path: Path) -> None:
    keys = two_shards(tmp_path)
    min(shards(tmp_path), key=lambda path: path.stat().st_size).unlink()
    assert [opened(tmp_path).has(key) for key in keys] == [True, False]


@given(cut=st.integers(0, 2000), junk=st.binary(max_size=20))
def test_an_index_torn_anywhere_loses_no_more_than_its_torn_line(
    cut: int, junk: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    keys = two_shards(folder)
    index = folder / "index.jsonl"
    data = index.read_bytes()
    kept = data[:cut]
    index.write_bytes(kept + junk)
    store = opened(folder)
    lines = kept.count(b"\n") + (cut >= len(data) - 1 and cut < len(data) and junk[:1] in (b"", b"\n"))
    assert [store.has(key) for key in keys] in ([True] * min(lines, 2) + [False] * (2 - min(lines, 2)),)
    for n in range(2):
        put_edit(store, f"prompt {n}", "p", n)
    store.flush()
    assert all(same(opened(folder).load(key), edit_conditioning(n, latents(ord("p")))) for n, key in enumerate(keys))


def test_a_shard_damaged_within_is_named_when_it_is_read(tmp_path: Path) -> None:
    key = two_shards(tmp_path)[0]
    for shard in shards(tmp_path):
        shard.write_bytes(b"\xff" * shard.stat().st_size)
    with pytest.raises(StoreError, match=r"shard-\w+\.safetensors cannot be read .*; remove that file and run fewstep"):
        opened(tmp_path).load(key)


def test_index_lines_of_another_make_are_passed_over(tmp_path: Path) -> None:
    keys = two_shards(tmp_path)
    with (tmp_path / "index.jsonl").open("a") as file:
        for line in (
            {},
            {"shard": 3},
            {"shard": "../x", "bytes": None},
            {"shard": shards(tmp_path)[0].name, "bytes": "1"},
        ):
            file.write(json.dumps(line) + "\n")
    assert all(map(opened(tmp_path).has, keys))


def test_a_foreign_store_is_refused(tmp_path: Path) -> None:
    two_shards(tmp_path)
    with pytest.raises(StoreError, match=r"was encoded by another model \(print, this one is other\)"):
        ConditioningStore(tmp_path, "other")
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read; remove"):
        opened(tmp_path)
    (tmp_path / "store.json").write_text('{"format": 99, "fingerprint": "print"}')
    with pytest.raises(StoreError, match="format 99"):
        opened(tmp_path)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(StoreError, match=r"is no conditioning store \(photo\.png is in it\)"):
        opened(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentRefused, match="cannot be written"):
        opened(tmp_path / "file")


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    keys = two_shards(tmp_path)
    store = opened(tmp_path)
    more = put(store, "x", 5, length=500)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(room=4000), pytest.raises(EnvironmentRefused, match="Free some space"):
        store.flush()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    store.flush()
    assert all(map(opened(tmp_path).has, (*keys, more))), "what did not fit is still there to be written"


def test_what_is_missing_is_asked_for_by_name(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for ask in (store.load, store.layout, store.length):
        with pytest.raises(StoreError, match="run fewstep encode"):
            ask(store.key("a", (), SIZE))


def test_two_processes_may_fill_one_store(tmp_path: Path) -> None:
    a, b = opened(tmp_path), opened(tmp_path)
    keys = [put(a, "a", 0), put(b, "b", 1), put(a, "both", 2), put(b, "both", 2)]
    b.flush()
    a.flush()
    store = opened(tmp_path)
    assert all(map(store.has, keys))
    assert len(store) == 3
