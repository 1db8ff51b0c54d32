"""ComfyUI's names for diffusers' modules, family by family: which it renames, and which it fuses into one matrix.

| family | ComfyUI's modules |
|---|---|
| Qwen-Image-2.1 | diffusers' names, but the MLP's gate and projection are one: img_mlp.gate_up, gate rows first |
| Qwen-Image 20 B | diffusers' names, all of them |
| FLUX.2 klein | its makers' own: double_blocks.0.img_attn.qkv, single_blocks.0.linear1, final_layer.linear, .. |
| Z-Image | its makers' own: queries, keys and values are one, layers.0.attention.qkv; x_embedder, final_layer.linear |
| LongCat-Image | those of FLUX.1: as klein's, with modulations in each block; single_blocks.0.linear1 is four in one |
| FLUX 3 Klein | its makers' own: content_mode_blocks.image.0.q_proj, single_blocks.0.mlp_in, ..; none are fused |

Source: ComfyUI's comfy/lora.py, comfy/utils.py and comfy/ldm/qwen_image, read in November 2026. diffusers reads the
same layouts (`from_single_file`), and the tests hold these tables against it. ComfyUI's own code for FLUX 3 was not at
hand: that table is the layout that diffusers 0.42.1 reads as the makers' (`loaders/single_file_utils.py`), also behind
ComfyUI's prefixes, `model.diffusion_model.` of whole weights and `diffusion_model.` of LoRAs.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ComfyUIModule:
    """One of ComfyUI's modules.

    Args:
        parts: diffusers' modules whose rows it holds, in that order. A module that is only renamed has one part.
        swapped: the two halves of its rows are exchanged (diffusers has scale before shift).
        weight: the name of its tensor.
    """

    parts: tuple[str, ...]
    swapped: bool = False
    weight: str = "weight"


@dataclass(frozen=True)
class RenameRule:
    """A module of ComfyUI, and the modules of diffusers that it consists of. "*" stands for the same text in all
    names. The fields are those of `ComfyUIModule`."""

    name: str
    parts: tuple[str, ...]
    swapped: bool = False
    weight: str = "weight"


@dataclass(frozen=True)
class ComfyUILayout:
    """The rules of one family.

    Args:
        family: its name in messages.
        mark: the end of a module's name that only this family has.
        diffusers_names: whether ComfyUI is known to load LoRAs with diffusers' names too.
    """

    family: str
    mark: str
    rules: tuple[RenameRule, ...]
    diffusers_names: bool = True


def _block(name: str, *parts: str, weight: str = "weight") -> RenameRule:
    return RenameRule(f"double_blocks.*.{name}", tuple(f"transformer_blocks.*.{part}" for part in parts), weight=weight)


def _single(name: str, *parts: str, weight: str = "weight") -> RenameRule:
    return RenameRule(
        f"single_blocks.*.{name}", tuple(f"single_transformer_blocks.*.{part}" for part in parts), weight=weight
    )


_FLUX = (  # of FLUX.1 and FLUX.2 alike
    _block("img_attn.qkv", "attn.to_q", "attn.to_k", "attn.to_v"),
    _block("txt_attn.qkv", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    _block("img_attn.proj", "attn.to_out.0"),
    _block("txt_attn.proj", "attn.to_add_out"),
    _block("img_attn.norm.query_norm", "attn.norm_q", weight="scale"),
    _block("img_attn.norm.key_norm", "attn.norm_k", weight="scale"),
    _block("txt_attn.norm.query_norm", "attn.norm_added_q", weight="scale"),
    _block("txt_attn.norm.key_norm", "attn.norm_added_k", weight="scale"),
    _single("norm.query_norm", "attn.norm_q", weight="scale"),
    _single("norm.key_norm", "attn.norm_k", weight="scale"),
    RenameRule("img_in", ("x_embedder",)),
    RenameRule("txt_in", ("context_embedder",)),
    RenameRule("final_layer.linear", ("proj_out",)),
    RenameRule("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True),
)

_KLEIN = (
    *_FLUX,
    _block("img_mlp.0", "ff.linear_in"),
    _block("img_mlp.2", "ff.linear_out"),
    _block("txt_mlp.0", "ff_context.linear_in"),
    _block("txt_mlp.2", "ff_context.linear_out"),
    _single("linear1", "attn.to_qkv_mlp_proj"),
    _single("linear2", "attn.to_out"),
    RenameRule("time_in.in_layer", ("time_guidance_embed.timestep_embedder.linear_1",)),
    RenameRule("time_in.out_layer", ("time_guidance_embed.timestep_embedder.linear_2",)),
    RenameRule("guidance_in.in_layer", ("time_guidance_embed.guidance_embedder.linear_1",)),
    RenameRule("guidance_in.out_layer", ("time_guidance_embed.guidance_embedder.linear_2",)),
    RenameRule("double_stream_modulation_img.lin", ("double_stream_modulation_img.linear",)),
    RenameRule("double_stream_modulation_txt.lin", ("double_stream_modulation_txt.linear",)),
    RenameRule("single_stream_modulation.lin", ("single_stream_modulation.linear",)),
)

_LONGCAT = (
    *_FLUX,
    _block("img_mlp.0", "ff.net.0.proj"),
    _block("img_mlp.2", "ff.net.2"),
    _block("txt_mlp.0", "ff_context.net.0.proj"),
    _block("txt_mlp.2", "ff_context.net.2"),
    _block("img_mod.lin", "norm1.linear"),
    _block("txt_mod.lin", "norm1_context.linear"),
    _single("linear1", "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    _single("linear2", "proj_out"),
    _single("modulation.lin", "norm.linear"),
    RenameRule("time_in.in_layer", ("time_embed.timestep_embedder.linear_1",)),
    RenameRule("time_in.out_layer", ("time_embed.timestep_embedder.linear_2",)),
)

_Z_IMAGE = (
    RenameRule("*.attention.qkv", ("*.attention.to_q", "*.attention.to_k", "*.attention.to_v")),
    RenameRule("*.attention.out", ("*.attention.to_out.0",)),
    RenameRule("*.attention.q_norm", ("*.attention.norm_q",)),
    RenameRule("*.attention.k_norm", ("*.attention.norm_k",)),
    RenameRule("x_embedder", ("all_x_embedder.2-1",)),
    RenameRule("final_layer.*", ("all_final_layer.2-1.*",)),
)


def _flux3_block(theirs: str, ours: str) -> tuple[RenameRule, ...]:
    """The rules of one kind of block."""
    layers = {
        "q_proj": "attn.to_q",
        "k_proj": "attn.to_k",
        "v_proj": "attn.to_v",
        "attn_out": "attn.to_out.0",
        "mlp_in": "ff.linear_in",
        "mlp_out": "ff.linear_out",
    }
    norms = {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
    return (
        *(RenameRule(f"{theirs}.*.{name}", (f"{ours}.*.{layer}",)) for name, layer in layers.items()),
        *(RenameRule(f"{theirs}.*.{name}", (f"{ours}.*.{norm}",), weight="scale") for name, norm in norms.items()),
    )


_FLUX3 = (
    *_flux3_block("content_mode_blocks", "mode_blocks"),
    *_flux3_block("txt_mode_blocks", "txt_mode_blocks"),
    *_flux3_block("single_blocks", "single_transformer_blocks"),
    RenameRule("emb_in.*", ("x_embedders.*",)),
    RenameRule("txt_in", ("context_embedder",)),
    RenameRule("time_in.in_layer", ("timestep_embedder.linear_1",)),
    RenameRule("time_in.out_layer", ("timestep_embedder.linear_2",)),
    RenameRule("early_stream_modulations.*.lin", ("early_stream_modulations.*.linear",)),
    RenameRule("single_stream_modulations.*.lin", ("single_stream_modulations.*.linear",)),
    RenameRule("final_layer.image.linear", ("proj_out",)),
    RenameRule("final_layer.image.adaLN_modulation.1", ("norm_out.linear",), swapped=True),
)

LAYOUTS = (
    ComfyUILayout(
        "Qwen-Image-2.1",
        "img_mlp.gate_layer",
        (RenameRule("*img_mlp.gate_up", ("*img_mlp.gate_layer", "*img_mlp.proj")),),
    ),
    ComfyUILayout("Qwen-Image 20 B", "txt_mlp.net.0.proj", ()),
    ComfyUILayout("FLUX.2 klein", "double_stream_modulation_img.linear", _KLEIN),
    ComfyUILayout("Z-Image", "all_x_embedder.2-1", _Z_IMAGE),
    ComfyUILayout("LongCat-Image", "time_embed.timestep_embedder.linear_1", _LONGCAT),
    ComfyUILayout("FLUX 3 Klein", "early_stream_modulations.image.linear", _FLUX3, diffusers_names=False),
)


def comfyui_layout_of(modules: Iterable[str]) -> ComfyUILayout | None:
    """The layout of the family that these modules belong to; None if ComfyUI's names for it are not known here."""
    names = tuple(modules)
    return next((known for known in LAYOUTS if any(name.endswith(known.mark) for name in names)), None)


def comfyui_modules(modules: Iterable[str]) -> dict[str, ComfyUIModule]:
    """ComfyUI's modules by name, for the diffusers modules of one transformer. A module without a rule keeps its
    name."""
    names = list(modules)
    layout = comfyui_layout_of(names)
    if layout is None:
        return {name: ComfyUIModule((name,)) for name in names}
    found: dict[str, ComfyUIModule] = {}
    fused = {part for rule in layout.rules for part in rule.parts[1:]}
    for name in names:
        rule, star = _rule(name, layout.rules)
        if rule is not None:
            parts = tuple(part.replace("*", star) for part in rule.parts)
            found[rule.name.replace("*", star)] = ComfyUIModule(parts, rule.swapped, rule.weight)
        elif not any(_star(name, part) is not None for part in fused):
            found[name] = ComfyUIModule((name,))
    return found


def _rule(name: str, rules: Iterable[RenameRule]) -> tuple[RenameRule | None, str]:
    """The rule whose first part has this name, and what its "*" stands for."""
    for rule in rules:
        star = _star(name, rule.parts[0])
        if star is not None:
            return rule, star
    return None, ""


def _star(name: str, pattern: str) -> str | None:
    match = re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), name)
    return None if match is None else match[1] if "*" in pattern else ""


def modules_of(tensors: Mapping[str, object]) -> list[str]:
    """The modules that a transformer's tensors belong to, each once."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
