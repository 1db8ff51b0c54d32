"""A student folder is what was trained, opened by programs that know nothing of it."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import QwenImage21Pipeline
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.export import stock_process
from fewstep.export.card import StudentInfo
from fewstep.export.folder import ExportOptions, StudentWeights, export_lora, export_student
from fewstep.export.verify import (
    Check,
    Verification,
    refuse_differences,
    verify,
)
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.factors import Factors
from fewstep.roles.adapters import Adapters
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import (
    AdapterError,
    ExportError,
    FewstepError,
    ModelError,
)
from fewstep.sample.pictures import generate_pictures, load_student

GRID = SigmaGrid.static(4, 3.0)
RECIPE = "name: tiny\nsize: [64, 64]\n"
ALPHA, RANK = 6.0, 3


@pytest.fixture(scope="session")
def student(base: Path, adapter: Mapping[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("student") / "folder"
    info = StudentInfo("Tiny student", (64, 64), "someone/tiny", "tiny", {"t2i": 5, "edit": 5}, {"attributes": ".93"})
    info = replace(info, learned_from=("my-lora.safetensors",))
    return export_student(
        base, StudentWeights(adapter, "adapter", ALPHA), GRID, to, RECIPE, info, ExportOptions(dtype="fp32")
    )


def adapted(adapter: Mapping[str, Tensor]) -> QwenImage21:
    """The base with the adapter on, as it is trained: nothing merged."""
    backbone = QwenImage21.tiny()
    modules = sorted({key.split(".lora_")[0] for key in adapter})
    factors = {
        m: Factors(adapter[f"{m}.lora_A.student.weight"], adapter[f"{m}.lora_B.student.weight"], ALPHA) for m in modules
    }
    adapters = Adapters(backbone.transformer)
    adapters.load("student", factors, "a test")
    adapters._switch(["student"])
    return backbone


def velocity(backbone: QwenImage21) -> Tensor:
    cond = QwenImage21.tiny().encode(["a boat"], None, (64, 64))[0]
    z_BND = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return backbone.velocity(backbone.transformer, z_BND, torch.tensor([0.75]), cond)


def test_merging_equals_the_adapter(student: Path, adapter: Mapping[str, Tensor]) -> None:
    v_BND = velocity(QwenImage21.load(student, torch.float32))
    torch.testing.assert_close(v_BND, velocity(adapted(adapter)), atol=1e-5, rtol=0)
    assert (v_BND - velocity(QwenImage21.tiny())).abs().max() > 0.01  # the adapter does something


def test_lora_file_loads_to_the_same_velocity(student: Path, adapter: Mapping[str, Tensor]) -> None:
    pipe = tiny_qwen_image_21.qwen_image_21_pipeline(0)
    pipe.load_lora_weights(student / "lora")
    v_BND = velocity(QwenImage21.from_pipeline(pipe))
    torch.testing.assert_close(v_BND, velocity(adapted(adapter)), atol=1e-5, rtol=0)


def test_lora_file_has_alpha_and_diffusers_keys(student: Path) -> None:
    with safe_open(student / "lora" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
        assert "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" in file.keys()  # noqa: SIM118
    assert metadata["transformer.lora_alpha"] == metadata["transformer.r"] == RANK != ALPHA  # the scale is in B


def test_a_fresh_process_samples_right_by_default(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No steps, no sigmas, no guidance given: 4 network calls at exactly sample_sigmas, and our sampler's pictures.
    This one imports stock diffusers anew, as a user's process does."""
    monkeypatch.setattr(sys, "executable", str(Path(sys.prefix) / "bin" / "python"))
    report = verify(student)
    assert [check.task for check in report.checks] == ["t2i", "edit"]
    for check in report.checks:
        assert check.times == pytest.approx(list(GRID), abs=1e-7)
        assert check.latent_error < 2e-5
        assert check.levels <= 1
    assert "4 network calls at 1, 0.9, 0.75, 0.5" in report.words()


def test_stock_class_reads_the_grid(student: Path, counted: Callable[[torch.nn.Module], list[float]]) -> None:
    pipe = QwenImage21Pipeline.from_pretrained(student)
    pipe.set_progress_bar_config(disable=True)
    times = counted(pipe.transformer)
    drawn = pipe("a boat", output_resolution=64, generator=torch.Generator().manual_seed(9)).images[0]
    assert times == pytest.approx(list(GRID), abs=1e-7)
    (ours,) = generate_pictures(load_student(student), ["a boat"], seed=9)
    levels = np.abs(np.asarray(ours, int) - np.asarray(drawn, int)).max()
    assert levels <= 1  # sums in another order on another CPU: one Intel rounded one value in thousands differently


def test_verify_refuses_the_bases_scheduler(
    student: Path, tmp_path: Path, counted: Callable[[torch.nn.Module], list[float]]
) -> None:
    """The commonest complaint about released students: a scheduler that shifts the list once more."""
    broken = tmp_path / "broken"
    shutil.copytree(student, broken)
    config = broken / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"shift": 3.0}))
    pipe = QwenImage21Pipeline.from_pretrained(broken)
    pipe.set_progress_bar_config(disable=True)
    times = counted(pipe.transformer)
    pipe("a boat", output_resolution=64)
    for check, message in (
        (Check("t2i", tuple(times), 0.0, 0), "not at the student's"),
        (Check("t2i", tuple(GRID)[:3], 0.0, 0), "not at the student's"),
        (Check("t2i", tuple(GRID), float("nan"), 0), "latents differ"),
    ):
        with pytest.raises(ExportError, match=message):
            refuse_differences(Verification(broken, tuple(GRID), "float32", (check,)))
    refuse_differences(Verification(broken, tuple(GRID), "float32", (Check("t2i", tuple(GRID), 1e-6, 0),)))


def test_the_folder_is_whole(student: Path, base: Path) -> None:
    index = json.loads((student / "model_index.json").read_text())
    assert index["sample_sigmas"] == pytest.approx([1, 0.9, 0.75, 0.5])
    scheduler = json.loads((student / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["shift"], scheduler["use_dynamic_shifting"], scheduler["shift_terminal"]) == (1.0, False, None)
    assert (student / "recipe.yaml").read_text() == RECIPE
    assert (student / "LICENSE").read_text() == (base / "LICENSE").read_text()
    assert not list(student.parent.glob(".*"))  # nothing half-written is left beside it


def test_the_card_states_what_matters(student: Path) -> None:
    card = (student / "README.md").read_text()
    for phrase in ("license: other", "license_name: tiny-research", "base_model: someone/tiny", "1.0, 0.9, 0.75, 0.5"):
        assert phrase in card
    for phrase in ("tiny-research", "Known failings", "DiffusionPipeline.from_pretrained", "attributes | .93", "t2i 5"):
        assert phrase in card
    for phrase in (
        "Learned from | the base, and my-lora.safetensors |",
        "It also learned from my-lora.safetensors, whose",
    ):
        assert phrase in card


def test_a_card_names_who_taught_and_where_the_student_began_without_folders(tmp_path: Path) -> None:
    teachers = "teachers.named={a: {model: Qwen/Qwen-Image-2512, anchor: true, tasks: [t2i]}}"
    recipe = load_recipe("pocket", [f"student.init_from={tmp_path / 'mine.safetensors'}", teachers])
    assert recipe.learned_from == ("mine.safetensors", "Qwen/Qwen-Image-2512")
    assert load_recipe("qwen-image-2.1").learned_from == ()


def test_the_cards_edit_keeps_its_references_shape_where_the_stock_class_does(
    base: Path, adapter: Mapping[str, Tensor], tmp_path: Path
) -> None:
    """At a megapixel, which is the stock call's own area. A smaller student's call has to say its size."""
    for side, told in ((1024, False), (64, True)):
        to = export_student(
            base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / str(side), RECIPE,
            StudentInfo("Tiny", (side, side), "someone/tiny"), ExportOptions(dtype="fp32"),
        )  # fmt: skip
        (edit,) = (line for line in (to / "README.md").read_text().splitlines() if line.startswith("edited = pipe("))
        assert ("height" in edit) == told, edit


def test_the_card_states_that_a_base_has_no_licence(
    base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    unlicensed = tmp_path / "unlicensed"
    shutil.copytree(base, unlicensed)
    (unlicensed / "README.md").unlink()
    to = export_student(unlicensed, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "s", RECIPE, about)
    assert "states no licence" in (to / "README.md").read_text()


def test_bf16_keeps_what_was_learnt(
    base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    to = export_student(base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "s", RECIPE, about)
    stored = load_file(to / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    assert "% of the update by norm" in (to / "README.md").read_text()


def test_a_whole_state_dict(base: Path, about: StudentInfo, tmp_path: Path) -> None:
    """Another network's weights in the base's folder, exactly."""
    other = QwenImage21.tiny(seed=5)
    state = other.transformer.state_dict()
    to = export_student(
        base, StudentWeights(state, "full"), GRID, tmp_path / "s", RECIPE, about, ExportOptions(dtype="fp32")
    )
    assert torch.equal(velocity(QwenImage21.load(to, torch.float32)), velocity(other))
    assert not (to / "lora").exists()


def test_shards_stay_shards(adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path) -> None:
    tiny_qwen_image_21.qwen_image_21_pipeline(0).save_pretrained(tmp_path / "base", max_shard_size="100KB")
    base, to = tmp_path / "base", tmp_path / "s"
    export_student(
        base, StudentWeights(adapter, "adapter", ALPHA), GRID, to, RECIPE, about, ExportOptions(dtype="fp32")
    )
    files = {path.name for path in (to / "transformer").iterdir()}
    assert len(files) > 3
    assert files == {path.name for path in (base / "transformer").iterdir()}
    v_BND = velocity(QwenImage21.load(to, torch.float32))
    torch.testing.assert_close(v_BND, velocity(adapted(adapter)), atol=1e-5, rtol=0)


def test_only_the_lora(base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path) -> None:
    to = export_lora(base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "lora", RECIPE, about)
    pipe = tiny_qwen_image_21.qwen_image_21_pipeline(0)
    pipe.load_lora_weights(to)
    torch.testing.assert_close(velocity(QwenImage21.from_pipeline(pipe)), velocity(adapted(adapter)), atol=1e-5, rtol=0)
    assert json.loads((to / "sample_sigmas.json").read_text()) == list(GRID)
    assert "load_lora_weights" in (to / "README.md").read_text()


def wrong_key(state: dict[str, Tensor]) -> None:
    state["transformer_blocks.0.attn.to_q.lora_magnitude_vector"] = torch.ones(3)


def lone_factor(state: dict[str, Tensor]) -> None:
    del state["transformer_blocks.0.attn.to_q.lora_B.student.weight"]


def unknown_module(state: dict[str, Tensor]) -> None:
    state["blocks.9.lora_A.weight"], state["blocks.9.lora_B.weight"] = torch.ones(3, 4), torch.ones(4, 3)


def wrong_shape(state: dict[str, Tensor]) -> None:
    state["transformer_blocks.0.attn.to_q.lora_B.student.weight"] = torch.ones(5, RANK)


def not_finite(state: dict[str, Tensor]) -> None:
    state["transformer_blocks.0.attn.to_q.lora_B.student.weight"].mul_(float("nan"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_key, "not a LoRA factor"),
        (lone_factor, "not its partner"),
        (unknown_module, "another base"),
        (wrong_shape, "does not fit the base"),
        (not_finite, "not finite"),
        (dict.clear, "empty"),
    ],
)
def test_adapters_that_do_not_fit(
    base: Path,
    adapter: Mapping[str, Tensor],
    about: StudentInfo,
    tmp_path: Path,
    spoil: Callable[[dict[str, Tensor]], None],
    message: str,
) -> None:
    state = {key: value.clone() for key, value in adapter.items()}
    spoil(state)
    with pytest.raises(AdapterError, match=message):
        export_student(base, StudentWeights(state, "adapter", ALPHA), GRID, tmp_path / "s", RECIPE, about)
    assert not list(tmp_path.iterdir())  # neither a folder nor half of one


def test_a_place_that_is_not_empty(
    base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("precious")
    with pytest.raises(ExportError, match="not an empty folder"):
        export_student(base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "s", RECIPE, about)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["mine.txt"]


def test_an_empty_place_is_taken(base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    assert export_student(base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "s", RECIPE, about).is_dir()


def test_refusals(base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="alpha"):
        export_student(base, StudentWeights(adapter, "adapter"), GRID, tmp_path / "s", RECIPE, about)
    with pytest.raises(ExportError, match="bf16 or fp32"):
        export_student(
            base,
            StudentWeights(adapter, "adapter", ALPHA),
            GRID,
            tmp_path / "s",
            RECIPE,
            about,
            ExportOptions(dtype="int8"),
        )
    with pytest.raises(ExportError, match="not the weights of"):
        export_student(base, StudentWeights({"x": torch.ones(1)}, "full"), GRID, tmp_path / "s", RECIPE, about)
    with pytest.raises(FewstepError, match="no sample_sigmas"):
        verify(base)
    with pytest.raises(FewstepError, match="no sample_sigmas"):
        load_student(base)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ModelError, match="the families that fewstep knows"):
        export_student(foreign, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "s", RECIPE, about)


def test_a_process_that_the_system_ended_is_no_bad_student(tmp_path: Path) -> None:
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(ExportError, match=r"ended by SIGKILL .* a weight takes 4 bytes"):
        stock_process._run(killed, stock_process.StockRequest(str(tmp_path), "float32", "cpu"), 60)
