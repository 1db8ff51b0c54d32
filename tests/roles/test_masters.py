"""fp32 masters under autocast compute what the bf16 base computes: roles differ by what was learnt alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fewstep.backbones.conditioning import stack
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.roles.network import Network
from fewstep.roles.sharding import REPLICATED
from tests.train.tiny_model import normal

FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen-image-2.1": QwenImage21.tiny,
    "qwen-image": QwenImage.tiny,
    "flux2-klein": Flux2Klein.tiny,
    "flux3-klein": Flux3Klein.tiny,
}
T = torch.tensor([0.3137, 0.83])  # no times that bf16 has


@pytest.fixture(params=FAMILIES)
def backbone(request: pytest.FixtureRequest) -> Any:
    """In bf16 as loaded: buffers keep fp32. Norms have weights that bf16 rounds, as trained ones have."""
    made = FAMILIES[request.param]()
    made.cond = stack(made.encode(["a red boat", "a blue one"], None, (64, 64)))
    kept = set(made.transformer._keep_in_fp32_modules or ())  # those of FLUX 3 stay fp32, as diffusers loads them
    for name, weight in made.transformer.named_parameters():
        if "norm" in name and weight.dim() == 1:
            weight.data += 0.1 * normal(*weight.shape, name=name)
        if not kept & set(name.split(".")):
            weight.data = weight.data.to(torch.bfloat16)
    return made


def networks(backbone: Any) -> tuple[Network, Network]:
    copy = REPLICATED.masters(backbone.transformer, {})
    return tuple(Network("x", backbone, each, precision="bf16") for each in (backbone.transformer, copy))  # type: ignore[return-value]


def test_a_copy_answers_as_the_base_to_the_last_bit(backbone: Any) -> None:
    base, copy = networks(backbone)
    assert {p.dtype for p in copy.transformer.parameters()} == {torch.float32}
    z = normal(2, *backbone.noise_shape(backbone.cond.layout))
    with torch.no_grad():
        assert torch.equal(base.velocity(z, T, backbone.cond), copy.velocity(z, T, backbone.cond))


def test_every_master_gets_its_gradient_in_fp32(backbone: Any) -> None:
    _, copy = networks(backbone)
    z = normal(2, *backbone.noise_shape(backbone.cond.layout))
    copy.velocity(z, T, backbone.cond).square().mean().backward()
    learning = {n: p.grad for n, p in copy.named_parameters().items() if "norm_added_q" not in n}
    assert any("norm" in name and grad is not None and grad.any() for name, grad in learning.items())
    assert {grad.dtype for grad in learning.values() if grad is not None} == {torch.float32}
    assert copy.transformer.state_dict().keys() == backbone.transformer.state_dict().keys()
    assert {weight.dtype for weight in copy.state().values()} == {torch.float32}
