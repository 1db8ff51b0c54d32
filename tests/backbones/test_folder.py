"""What is refused before anything heavy is loaded, in words that say what, where and how to mend it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

import fewstep.backbones.embedded as embedded
from fewstep.backbones.families import load_backbone
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.runtime.device import check_device
from fewstep.runtime.errors import EnvironmentRefused, ModelError


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk, its transformer in several shards. Not to be changed."""
    path = tmp_path_factory.mktemp("whole")
    pipeline = tiny_qwen_image_21.qwen_image_21_pipeline()
    pipeline.save_pretrained(path)
    (path / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    pipeline.transformer.save_pretrained(path / "transformer", max_shard_size="200KB")
    assert len(list((path / "transformer").glob("*.safetensors"))) > 1
    return path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refused(folder: Path | str, *words: str, parts: str = "all") -> None:
    with pytest.raises(ModelError) as caught:
        load_backbone(folder, dtype=torch.float32, parts=parts)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("parts", ["all", "transformer"])
def test_a_whole_folder_loads(whole: Path, parts: str) -> None:
    backbone = load_backbone(str(whole), dtype=torch.float32, parts=parts)  # type: ignore[arg-type]
    assert isinstance(backbone, QwenImage21)
    assert backbone.source == str(whole)
    want = tiny_qwen_image_21.qwen_image_21_pipeline().transformer.state_dict()
    assert all(torch.equal(want[k], v) for k, v in backbone.transformer.state_dict().items())


@pytest.mark.parametrize(
    "gone",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00002-of-00004.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "processor/tokenizer_config.json",
        "processor/tokenizer.json",
    ],
)
def test_the_missing_file_is_named(folder: Path, gone: str) -> None:
    (folder / gone).unlink()
    refused(folder, Path(gone).name, str(folder), "ownload")


def test_parts_that_are_not_needed_may_be_missing(folder: Path) -> None:
    for part in ("vae", "text_encoder", "processor"):
        shutil.rmtree(folder / part)
    backbone = load_backbone(folder, dtype=torch.float32, parts="transformer")
    refused(folder, "tokenizer_config.json")
    with pytest.raises(ModelError, match="missing"):
        backbone.fingerprint()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def _pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 644696\n")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("tear", [_cut, _pointer, _empty])
def test_torn_weights_are_named(folder: Path, tear: Callable[[Path], None]) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tear(file)
    refused(folder, str(file), "again")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.pt", "weights.pkl", "last.ckpt"])
def test_pickled_weights_are_refused(folder: Path, name: str) -> None:
    for file in (folder / "transformer").glob("*.safetensors*"):
        file.unlink()
    (folder / "transformer" / name).write_bytes(b"\x80\x04.")
    refused(folder, name, "safe_serialization=True", parts="transformer")


def test_a_broken_index_is_named(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")
    refused(folder, "model_index.json", "JSON")
    (folder / "model_index.json").write_text("[]")
    refused(folder, "model_index.json", "not a JSON object")
    shards = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    shards.write_text('{"weight_map": {}}')
    shutil.copy(Path(folder / "vae" / "config.json"), folder / "model_index.json")
    refused(folder, "AutoencoderKLQwenImage21", "QwenImage21Pipeline")


@pytest.mark.parametrize("name", ["FluxPipeline", None, ["my_module", "MyPipeline"]])
def test_an_unknown_family_lists_the_known(folder: Path, name: object) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    refused(folder, str(folder), str(name), "QwenImage21Pipeline")


def test_neither_folder_nor_hub_id(tmp_path: Path) -> None:
    refused(str(tmp_path / "nowhere"), "nowhere", "not a folder", "owner/name")
    refused("just-a-name", "owner/name")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    refused(file, "is a file", "model_index.json")


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refused("someone/no-such-model", "someone/no-such-model", "local folder")


def test_the_embedded_model_is_found_by_its_name(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "embedded_folder", lambda name: whole)
    backbone = load_backbone("pocket", dtype=torch.float32, parts="transformer")
    assert backbone.source == "pocket"
    assert isinstance(backbone, QwenImage21)
    assert backbone.folder == whole
    monkeypatch.setattr(embedded, "embedded_folder", lambda name: tmp_path / "none")
    refused("pocket", "Install fewstep again")


# ---- where and how


def test_a_device_that_is_not_here_is_refused_before_the_folder_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentRefused, match="sees no CUDA device"):
        load_backbone(tmp_path / "nothing", device="cuda")
    with pytest.raises(EnvironmentRefused, match="sees no CUDA device"):
        QwenImage21.load(tmp_path / "nothing", torch.float32, "cuda:1")


def test_odd_devices_and_dtypes() -> None:
    assert check_device(torch.bfloat16, "cpu") == torch.device("cpu")
    with pytest.raises(EnvironmentRefused, match="not a device"):
        check_device(torch.float32, "gpu")
    with pytest.raises(EnvironmentRefused, match=r"not torch\.int8"):
        check_device(torch.int8, "cpu")


def test_a_gpu_that_lacks_bfloat16_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    with pytest.raises(EnvironmentRefused, match=r"there are 1 GPUs"):
        check_device(torch.float32, "cuda:1")
    with pytest.raises(EnvironmentRefused, match="Old GPU does not know bfloat16"):
        check_device(torch.bfloat16, "cuda")
    assert check_device(torch.float32, "cuda").type == "cuda"


# ---- fingerprints


def print_of(folder: Path, parts: str = "transformer") -> str:
    return load_backbone(folder, dtype=torch.float32, parts=parts).fingerprint()  # type: ignore[arg-type]


def test_fingerprint_needs_no_encoder_in_memory(whole: Path) -> None:
    assert print_of(whole, "transformer") == print_of(whole, "all")
    assert load_backbone(whole, dtype=torch.bfloat16, parts="transformer").fingerprint() == print_of(whole)


def test_fingerprint_follows_what_encodes(folder: Path, whole: Path) -> None:
    before = print_of(folder)
    assert before == print_of(whole), "where the folder lies does not matter"
    for part, name in [("vae", "diffusion_pytorch_model"), ("text_encoder", "model")]:
        file = folder / part / f"{name}.safetensors"
        weights = load_file(file)
        save_file({k: v * 1.01 for k, v in weights.items()}, file)
        assert print_of(folder) != before
        save_file(weights, file)
        assert print_of(folder) == before
    template = folder / "processor" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert print_of(folder) != before


def test_fingerprint_ignores_what_does_not(folder: Path) -> None:
    """Another transformer, another scheduler, other shards of the same weights, who wrote a config."""
    before = print_of(folder)
    tiny_qwen_image_21.qwen_image_21_pipeline(7).transformer.save_pretrained(
        folder / "transformer", max_shard_size="200KB"
    )
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_diffusers_version": "9", "_name_or_path": "x"}))
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    file.unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / "vae" / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / "vae" / f"{file.name}.index.json").write_text(json.dumps(index))
    assert print_of(folder) == before
