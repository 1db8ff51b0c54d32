"""What it costs that texts are stored as the transformer's first layer answers to them, at the published widths.

    python benchmarks/projected_text.py flux3|klein [--tokens 8] [--words 100]

One or two blocks of each kind, random weights, on a CPU. The velocity of the stock forward over the hidden states of
the text encoder, in bf16, is compared with ours over the stored text, and both with float32. The hidden states are
drawn, with the number of positions that a prompt of so many words fills.
"""

import argparse
import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.flux2_klein import Flux2Klein, _picture_positions, _text_positions
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.layout import Layout
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.backbones.stock import Flux2Transformer2DModel, Flux3Transformer2DModel, flux3_picture_positions

KEPT_IN_FP32 = ("norm_q", "norm_k")  # of FLUX 3
KLEIN_4B = {"in_channels": 128, "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["flux3", "klein"])
    parser.add_argument("--tokens", type=int, default=8, help="rows and columns of the target's tokens")
    parser.add_argument("--words", type=int, default=100)
    given = parser.parse_args()
    torch.manual_seed(0)
    layout = Layout("t2i", (given.tokens, given.tokens))
    exact, family, positions, name = _flux3(layout) if given.model == "flux3" else _klein(layout)
    length = estimate_conditioning(name).text_length("wooden " * given.words, 0)
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    for key, parameter in rounded.named_parameters():
        if given.model == "flux3" and key.split(".")[-2] in KEPT_IN_FP32:
            parameter.data = parameter.data.float()
    states = torch.randn(1, length, exact.config.joint_attention_dim)  # type: ignore[attr-defined]
    z_BND = torch.randn(1, layout.target_tokens, 128)

    def stock(transformer: nn.Module, dtype: torch.dtype) -> Tensor:
        answer: Tensor = transformer(
            hidden_states=z_BND.to(dtype),
            encoder_hidden_states=states.to(dtype),
            timestep=torch.tensor([0.6]).to(dtype),
            txt_ids=_text_positions(length, z_BND.device),
            return_dict=False,
            **positions,
        )[0]
        return answer.float()

    with torch.no_grad():
        want, theirs = stock(exact, torch.float32), stock(rounded, torch.bfloat16)
        stored = rounded.context_embedder(states.to(torch.bfloat16))  # type: ignore[operator]
        cond = Conditioning(stored, stored.new_ones(1, length, dtype=torch.bool), layout)
        backbone = family(rounded, {}, {})
        ours = backbone.velocity(rounded, z_BND.to(torch.bfloat16), torch.tensor([0.6]), cond).float()
    held, whole = (tensor.numel() * 2 / 1e6 for tensor in (stored, states))
    print(f"{given.words} words, {length} positions: {held:.2f} MB stored, {whole:.2f} MB as hidden states")
    for told, found, other in (
        ("stock in bf16, to float32", theirs, want),
        ("ours in bf16, to float32", ours, want),
        ("ours to stock, both in bf16", ours, theirs),
    ):
        print(f"{told:28} {float((found - other).norm() / other.norm()):.2e}")


Side = tuple[nn.Module, type[PipelineBackbone], Mapping[str, Any], str]


def _flux3(layout: Layout) -> Side:
    """The transformer, its family, the stock call's positions of the picture, and the published model."""
    made = Flux3Transformer2DModel(num_layers=1, num_single_layers=2).eval().requires_grad_(False)
    positions = {"img_ids": flux3_picture_positions(*layout.target, 0.5)}
    return made, Flux3Klein, positions, "black-forest-labs/flux-3-image-klein-base"


def _klein(layout: Layout) -> Side:
    made = Flux2Transformer2DModel(num_layers=1, num_single_layers=2, **KLEIN_4B).eval().requires_grad_(False)
    positions = {"img_ids": _picture_positions(layout, torch.device("cpu")), "guidance": None}
    return made, Flux2Klein, positions, "black-forest-labs/FLUX.2-klein-base-4B"


if __name__ == "__main__":
    main()
