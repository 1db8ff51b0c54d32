"""What it costs FLUX 3 that texts are stored as its transformer's first layer answers to them, at the published widths.

    python benchmarks/flux3_text.py [--tokens 64] [--words 100]

One block of each kind and two joint ones, random weights, on a CPU. The velocity of the stock forward over the eight
hidden states, in bf16, is compared with ours over the stored text, and both with float32. The hidden states are drawn,
with the length of the window that a prompt of so many words fills.
"""

import argparse
import copy

import torch
from torch import Tensor

from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.layout import Layout
from fewstep.backbones.stock import Flux3Transformer2DModel, flux3_picture_positions

MODEL = "black-forest-labs/flux-3-image-klein-base"
KEPT_IN_FP32 = ("norm_q", "norm_k")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8, help="rows and columns of the target's tokens")
    parser.add_argument("--words", type=int, default=100)
    given = parser.parse_args()
    length = estimate_conditioning(MODEL).text_length("wooden " * given.words, 0)
    torch.manual_seed(0)
    exact = Flux3Transformer2DModel(num_layers=1, num_single_layers=2).eval().requires_grad_(False)
    rounded = copy.deepcopy(exact).to(torch.bfloat16)
    for name, parameter in rounded.named_parameters():
        if name.split(".")[-2] in KEPT_IN_FP32:
            parameter.data = parameter.data.float()
    states = torch.randn(1, length, exact.config.joint_attention_dim)
    z_BND, side = torch.randn(1, given.tokens**2, 128), given.tokens

    def stock(transformer: Flux3Transformer2DModel, dtype: torch.dtype) -> Tensor:
        text_ids = torch.zeros(length, 4)
        text_ids[:, 3] = torch.arange(length)
        answer: Tensor = transformer(
            hidden_states=z_BND.to(dtype),
            encoder_hidden_states=states.to(dtype),
            timestep=torch.tensor([0.6]).to(dtype),
            img_ids=flux3_picture_positions(side, side, 0.5),
            txt_ids=text_ids,
            return_dict=False,
        )[0]
        return answer.float()

    with torch.no_grad():
        want, theirs = stock(exact, torch.float32), stock(rounded, torch.bfloat16)
        stored = rounded.context_embedder(states.to(torch.bfloat16))
        cond = Conditioning(stored, stored.new_ones(1, length, dtype=torch.bool), Layout("t2i", (side, side)))
        family = Flux3Klein(rounded, {})
        ours = family.velocity(rounded, z_BND.to(torch.bfloat16), torch.tensor([0.6]), cond).float()
    held, whole = (tensor.numel() * 2 / 1e6 for tensor in (stored, states))
    print(f"{given.words} words, {length} positions: {held:.2f} MB stored, {whole:.2f} MB as hidden states")
    for name, found, other in (
        ("stock in bf16, to float32", theirs, want),
        ("ours in bf16, to float32", ours, want),
        ("ours to stock, both in bf16", ours, theirs),
    ):
        print(f"{name:28} {float((found - other).norm() / other.norm()):.2e}")


if __name__ == "__main__":
    main()
