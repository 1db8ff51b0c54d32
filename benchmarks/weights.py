"""What a run holds besides activations, by the shapes of the stock classes: nothing is loaded or computed.

    python benchmarks/weights.py

A learner has its weights, their gradients and AdamW's two moments in fp32; a checkpoint has weights and moments of both
learners and the student's average.
"""

import argparse
from collections.abc import Mapping

import torch
from torch import nn

from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.backbones.published_sizes import KLEIN, KLEIN_9B, LONGCAT
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.z_image import ZImage

MODELS: list[tuple[type[PipelineBackbone], Mapping[str, object], int]] = [
    (QwenImage21, {}, 64),
    (QwenImage, {}, 64),
    (Flux2Klein, KLEIN, 64),
    (Flux2Klein, KLEIN_9B, 64),
    (ZImage, {}, 64),
    (Flux3Klein, {}, 64),
    (LongCatImage, LONGCAT, 64),
]
LEARNERS = 2  # student and critic
HELD, KEPT = 4 * 4, 4 * 3  # bytes of a parameter that learns, on the device and on disk


def adapter_size(transformer: nn.Module, targets: tuple[str, ...], rank: int) -> int:
    """Parameters of a LoRA on every module that adapters attach to."""
    named = transformer.named_modules()
    linear = [module for name, module in named if isinstance(module, nn.Linear) and name.endswith(targets)]
    return sum(rank * (module.in_features + module.out_features) for module in linear)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("GB                    base bf16  learners  average  checkpoint   full: learners  average  checkpoint")
    for family, config, rank in MODELS:
        targets = family.tiny().lora_targets  # type: ignore[attr-defined]
        with torch.device("meta"):
            transformer = family.transformer_class.from_config(dict(config))
        whole = sum(parameter.numel() for parameter in transformer.parameters())
        lora = adapter_size(transformer, targets, rank)
        parts = [2 * whole]
        for size in (lora, whole):
            parts += [LEARNERS * HELD * size, 4 * size, (LEARNERS * KEPT + 4) * size]
        print(f"{family.family:15} r{rank} " + "".join(f"{part / 1e9:12.1f}" for part in parts))


if __name__ == "__main__":
    main()
