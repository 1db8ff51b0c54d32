"""What is particular to Qwen-Image 2.1."""

from pathlib import Path

import pytest
import torch

from fewstep.backbones.edit_sizes import reference_resolution
from fewstep.backbones.interleave import slot_positions
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import FlowMatchEulerDiscreteScheduler
from fewstep.backbones.testing import tiny_qwen_image_21
from fewstep.runtime.errors import LayoutError, ModelError
from tests.backbones.families import EDIT, EDIT_TWO, SIZE, T2I, noise_for, picture

TURBO = (1.0, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568)  # Qwen-Image-2.1-Turbo


@pytest.fixture(scope="module")
def backbone() -> QwenImage21:
    return QwenImage21.tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tiny_qwen_image_21.qwen_image_21_pipeline().save_pretrained(path)
    return path


def test_slots_are_found_where_they_stand() -> None:
    """Two references, one with no text before it: 4 and 8 slots."""
    slots = [True] * 4 + [False] * 3 + [True] * 8 + [False] * 2
    assert slot_positions(torch.tensor(slots), [(4, 4), (4, 8)]) == (0, 3)


def test_lora_targets_are_all_linears_of_a_block(backbone: QwenImage21) -> None:
    block = backbone.transformer.transformer_blocks[0]  # type: ignore[index]
    linears = [name for name, m in block.named_modules() if isinstance(m, torch.nn.Linear)]
    assert all(f".{name}".endswith(tuple(f".{t}" for t in backbone.lora_targets)) for name in linears)
    assert len(linears) == len(backbone.lora_targets) == 7


def test_ten_references_and_no_more(backbone: QwenImage21) -> None:
    images = [picture(64, 64, i) for i in range(11)]
    (cond,) = backbone.encode(["x"], images[:10], (32, 32))
    assert cond.layout.references == ((2, 2),) * 10
    v = backbone.velocity(backbone.transformer, noise_for(backbone, cond), torch.ones(1), cond)
    assert torch.isfinite(v).all()
    with pytest.raises(LayoutError, match="at most 10 references, not 11"):
        backbone.encode(["x"], images, (32, 32))


def test_pictures_of_different_shapes_are_no_batch(backbone: QwenImage21) -> None:
    with pytest.raises(LayoutError, match="share a shape"):
        backbone.encode_images([picture(64, 64), picture(32, 96)], (64, 64))


def test_a_processor_that_resizes_is_refused() -> None:
    backbone = QwenImage21.tiny()
    assert backbone.pipeline is not None
    backbone.pipeline.processor.image_processor.size = {"shortest_edge": 256 * 256, "longest_edge": 512 * 512}
    backbone.encode(["text alone is fine"], None, SIZE)
    with pytest.raises(ModelError, match="Widen the size range"):
        backbone.encode(EDIT.prompts, EDIT.references, SIZE)


@pytest.mark.parametrize(("size", "side"), [((1024, 1024), 1024), ((64, 64), 64), ((832, 1216), 1006)])
def test_reference_resolution(size: tuple[int, int], side: int) -> None:
    assert reference_resolution(size) == side


def test_the_layout_knows_where_image_slots_stood(backbone: QwenImage21) -> None:
    assert backbone.pipeline is not None
    for asked in (T2I, EDIT, EDIT_TWO):
        resized = [backbone._resized(image, asked.size) for image in asked.references]
        slots = backbone.pipeline.encode_prompt(list(asked.prompts), image=resized or None)[2][0]
        starts = [i for i in range(len(slots)) if slots[i] and not (i and slots[i - 1])]
        assert list(asked.conditioning(backbone).layout.slots) == [int((~slots[:start]).sum()) for start in starts]


def test_a_reference_of_the_targets_shape_gets_its_size(backbone: QwenImage21) -> None:
    """Else every edit would shift. Sizes whose area is no square included."""
    for size in [(64, 64), (64, 96), (832, 1216), (1664, 928), (96, 512)]:
        grid = backbone._reference_grid(picture(size[1] // 2, size[0] // 2), size)
        assert grid == backbone.layout_grid(size)


# ---- grids


@pytest.mark.parametrize(
    "config",
    [
        {"shift": 1.0},
        {"shift": 3.0},
        {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192},
        {"use_dynamic_shifting": True, "shift_terminal": 0.02},
    ],
    ids=["plain", "static", "dynamic", "terminal"],
)
def test_the_grid_is_the_pipelines(config: dict[str, object]) -> None:
    pipeline = tiny_qwen_image_21.qwen_image_21_pipeline()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(**config)
    assert_grid(QwenImage21.from_pipeline(pipeline), 5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_sample_sigmas_go_through_the_shift(dynamic: bool) -> None:
    pipeline = tiny_qwen_image_21.qwen_image_21_pipeline()
    pipeline.register_to_config(sample_sigmas=list(TURBO))
    if dynamic:
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    backbone = QwenImage21.from_pipeline(pipeline)
    assert_grid(backbone, 8)
    if not dynamic:
        assert backbone.sampling_grid(8, (4, 6)).sigmas == TURBO
        assert backbone.sampling_grid(2, (4, 6)).sigmas == (1.0, 0.5), "another number of steps is another grid"


def assert_grid(backbone: QwenImage21, steps: int) -> None:
    pipeline = backbone.pipeline
    assert pipeline is not None
    height, width = SIZE
    pipeline("x", height=height, width=width, num_inference_steps=steps, output_type="latent")
    grid = backbone.sampling_grid(steps, backbone.layout_grid(SIZE))
    torch.testing.assert_close(torch.tensor([*grid, 0.0]), pipeline.scheduler.sigmas, rtol=0, atol=1e-6)


def test_sample_sigmas_with_a_terminal_are_refused() -> None:
    pipeline = tiny_qwen_image_21.qwen_image_21_pipeline()
    pipeline.register_to_config(sample_sigmas=[1.0, 0.5])
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift_terminal=0.02)
    with pytest.raises(ModelError, match="list of sigmas"):
        QwenImage21.from_pipeline(pipeline).sampling_grid(2, (4, 4))


# ---- parts


def test_transformer_alone(folder: Path) -> None:
    backbone = QwenImage21.load(folder, torch.float32, parts="transformer")
    assert backbone.pipeline is None
    assert backbone.folder == folder
    for use in (
        lambda: backbone.encode(["x"], None, SIZE),
        lambda: backbone.encode_images([picture(64, 64)], SIZE),
        lambda: backbone.decode(torch.zeros(1, 24, 8), (4, 6)),
    ):
        with pytest.raises(ModelError, match="parts='all'"):
            use()


def test_the_vae_visits_the_transformers_device_to_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = QwenImage21.tiny()
    backbone.release_encoder()
    went: list[torch.device] = []
    move = type(backbone.pipeline.vae).to
    monkeypatch.setattr(type(backbone.pipeline.vae), "to", lambda vae, to: went.append(to) or move(vae, to))
    monkeypatch.setattr(QwenImage21, "device", torch.device("cpu", 0))  # the other one of a machine with two places
    with pytest.raises(KeyboardInterrupt), backbone.vae_on_device():
        raise KeyboardInterrupt
    assert went == [torch.device("cpu", 0), torch.device("cpu")]
    with backbone.meta_copy().vae_on_device():  # a rank that has no VAE
        pass


def test_released_encoder() -> None:
    """Training decodes its samples and names its store, and encodes no more."""
    backbone = QwenImage21.tiny()
    cond = EDIT.conditioning(backbone)
    x0_BND, before = noise_for(backbone, cond), backbone.fingerprint()
    picture_before = backbone.decode(x0_BND, cond.layout.target)[0]
    backbone.release_encoder()
    assert backbone.pipeline is not None
    assert backbone.pipeline.text_encoder is None
    assert backbone.fingerprint() == before
    assert backbone.decode(x0_BND, cond.layout.target)[0].tobytes() == picture_before.tobytes()
    with pytest.raises(ModelError, match="was released"):
        backbone.encode(["x"], None, SIZE)


def test_random_weights_of_a_config(backbone: QwenImage21) -> None:
    made = QwenImage21.random(dict(backbone.transformer.config), dtype=torch.bfloat16)
    assert {p.dtype for p in made.transformer.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    cond = T2I.conditioning(backbone)
    v = made.velocity(made.transformer, noise_for(backbone, cond), torch.ones(1), cond)
    assert v.dtype == torch.float32
    assert len(made.sampling_grid(4, (4, 4))) == 4
    with pytest.raises(ModelError, match="only its transformer"):
        made.fingerprint()


def test_without_causal_condition_there_is_no_prefix() -> None:
    pipeline = tiny_qwen_image_21.qwen_image_21_pipeline()
    pipeline.transformer.register_to_config(causal_condition=False)
    backbone = QwenImage21.from_pipeline(pipeline)
    cond = EDIT_TWO.conditioning(backbone)
    assert backbone.prefix(backbone.transformer, cond) is None
    assert torch.isfinite(backbone.velocity(backbone.transformer, noise_for(backbone, cond), torch.ones(1), cond)).all()


def test_tiny_is_a_function_of_its_seed() -> None:
    state = torch.get_rng_state()
    first, again, other = (QwenImage21.tiny(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state is left alone"
    weights = [b.transformer.state_dict() for b in (first, again, other)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert not all(torch.equal(weights[0][k], weights[2][k]) for k in weights[0])
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
