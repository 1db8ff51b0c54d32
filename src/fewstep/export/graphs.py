"""ComfyUI's graph for each base: its files, and its nodes for a prompt, for a picture to edit, and for an empty latent.

Nodes, their inputs and the names of files are those of ComfyUI's own published templates and node pages.
`tests/export/test_comfyui_published.py` compares the graphs with both. Only the sampling is ours: the student's noise
levels, plain Euler, no guidance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewstep.runtime.task import Task

Graph = dict[str, dict[str, Any]]
Size = tuple[int, int]  # height, width
PROMPT, INSTRUCTION = "A small house by the sea at sunset.", "Make it night."
VAE = ["vae", 0]
FLUX_LATENTS = ("Flux2KleinPipeline", "Flux3ModularPipeline")  # whose latents are those of FLUX.2's VAE
SMALLEST_MEGAPIXELS = 0.05  # ours: below it, rounding to the node's hundredths changes the area by more than a tenth


@dataclass(frozen=True)
class BaseFiles:
    """The published files of a base. Users with other files choose them in the loader nodes. encoder_type: the type of
    the CLIPLoader."""

    unet: str
    text_encoder: str
    encoder_type: str
    vae: str


_TWENTY = ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image", "qwen_image_vae.safetensors")
FLUX_VAE = "ae.safetensors"
_LONGCAT = ("qwen_2.5_vl_7b_fp8_scaled.safetensors", "longcat_image", FLUX_VAE)
FILES = {  # by the stock class of the base
    "QwenImage21Pipeline": BaseFiles(
        "qwen_image_2.1_bf16.safetensors",
        "qwen3vl_8b_bf16.safetensors",
        "qwen_image",
        "qwen_image_2.1_vae_bf16.safetensors",
    ),
    "QwenImagePipeline": BaseFiles("qwen_image_2512_fp8_e4m3fn.safetensors", *_TWENTY),
    "QwenImageEditPlusPipeline": BaseFiles("qwen_image_edit_2511_bf16.safetensors", *_TWENTY),
    "Flux2KleinPipeline": BaseFiles(
        "flux-2-klein-base-4b-fp8.safetensors", "qwen_3_4b.safetensors", "flux2", "flux2-vae.safetensors"
    ),
    "Flux3ModularPipeline": BaseFiles(
        "flux3-image-klein-base-bf16.safetensors",
        "qwen3vl_4b_int8_convrot.safetensors",
        "flux3",
        "flux2-vae.safetensors",
    ),
    "ZImagePipeline": BaseFiles("z_image_bf16.safetensors", "qwen_3_4b.safetensors", "lumina2", FLUX_VAE),
    "LongCatImagePipeline": BaseFiles("longcat_image_bf16.safetensors", *_LONGCAT),
    "LongCatImageEditPipeline": BaseFiles("longcat_image_edit_bf16.safetensors", *_LONGCAT),
}


@dataclass(frozen=True)
class ComfyUIBase:
    """A base. pipeline: its stock class. zero_cond_t: whether references are modulated with t = 0 (as in
    Qwen-Image-Edit-2511)."""

    pipeline: str
    zero_cond_t: bool = False


def graph(
    base: ComfyUIBase, task: Task, sigmas: str, size: Size, *, lora: str | None = None, unet: str | None = None
) -> Graph:
    """The graph of one task, nodes by name. A list of a node's name and a number is a link to that output.

    Args:
        sigmas: as ManualSigmas reads them.
        lora: the student's LoRA in models/loras/, on the base's file.
        unet: the student's own file in models/diffusion_models/, in place of a LoRA.
    """
    files = FILES[base.pipeline]
    own = _edit(base, size) if task == "edit" else _t2i(base, size)
    found: Graph = {
        "base": node("UNETLoader", unet_name=unet or files.unet, weight_dtype="default"),
        "text encoder": node("CLIPLoader", clip_name=files.text_encoder, type=files.encoder_type, device="default"),
        "vae": node("VAELoader", vae_name=files.vae),
        "noise": node("RandomNoise", noise_seed=0),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("ManualSigmas", sigmas=sigmas),
        "guider": node("BasicGuider", model=["student" if lora else "base", 0], conditioning=["prompt", 0]),
        "sample": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent", 0] if "latent" in own else ["prompt", 2],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=VAE),
        "save": node("SaveImage", images=["decode", 0], filename_prefix=_stem(lora or unet or files.unet)),
    }
    if lora:
        found["student"] = node("LoraLoaderModelOnly", model=["base", 0], lora_name=lora, strength_model=1.0)
    return found | own


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _stem(file: str) -> str:
    return file.removesuffix(".safetensors")


def _t2i(base: ComfyUIBase, size: Size) -> Graph:
    """Nodes "prompt" and "latent"."""
    if base.pipeline == "QwenImage21Pipeline":
        return {"prompt": _prompt_21(PROMPT, size), "latent": _empty("EmptyLatentImage", size)}
    kind = "EmptyFlux2LatentImage" if base.pipeline in FLUX_LATENTS else "EmptySD3LatentImage"
    return {"prompt": _words(PROMPT), "latent": _empty(kind, size)}


def _edit(base: ComfyUIBase, size: Size) -> Graph:
    """The latent has the shape of the reference as the model sees it. Any other shape would shift the picture."""
    own = {
        "QwenImage21Pipeline": lambda: _edit_21(size),
        "QwenImageEditPlusPipeline": lambda: _edit_20b(base.zero_cond_t),
        "Flux2KleinPipeline": lambda: _edit_klein(size),
        "Flux3ModularPipeline": lambda: _edit_flux3(size),
        "LongCatImageEditPipeline": _edit_longcat,
    }[base.pipeline]()
    return {"picture": node("LoadImage", image="example.png"), **own}


def _edit_21(size: Size) -> Graph:
    """The node for the prompt makes the latent too, as its third output."""
    return {"prompt": _prompt_21(INSTRUCTION, size, {"vae": VAE, "images.image_1": ["picture", 0]})}


def _edit_20b(zero_cond_t: bool) -> Graph:
    asked = node("TextEncodeQwenImageEditPlus", clip=["text encoder", 0], prompt=INSTRUCTION, vae=VAE)
    asked["inputs"]["image1"] = ["scaled", 0]
    nodes: Graph = {"prompt": asked}
    if zero_cond_t:
        method = node("FluxKontextMultiReferenceLatentMethod", conditioning=["instruction", 0])
        method["inputs"]["reference_latents_method"] = "index_timestep_zero"
        nodes = {"instruction": asked, "prompt": method}
    return {
        "scaled": node("FluxKontextImageScale", image=["picture", 0]),
        "latent": node("VAEEncode", pixels=["scaled", 0], vae=VAE),
        **nodes,
    }


def _edit_klein(size: Size) -> Graph:
    """The model crops references to a grid of 16 px. Here they are scaled to that grid, so nothing is cut off."""
    return {
        "scaled": node(**_scaled_klein(size), image=["picture", 0], upscale_method="lanczos"),
        "reference": node("VAEEncode", pixels=["scaled", 0], vae=VAE),
        "instruction": _words(INSTRUCTION),
        "prompt": node("ReferenceLatent", conditioning=["instruction", 0], latent=["reference", 0]),
        "shape": node("GetImageSize", image=["scaled", 0]),
        "latent": node("EmptyFlux2LatentImage", width=["shape", 0], height=["shape", 1], batch_size=1),
    }


def _edit_flux3(size: Size) -> Graph:
    """The reference is scaled to the student's area before the node that encodes it, which then keeps its size. That
    node makes the latent of the first reference's shape too, as its third output."""
    return {
        "scaled": node(**_scaled_klein(size), image=["picture", 0], upscale_method="lanczos"),
        "instruction": _words(INSTRUCTION),
        "prompt": {
            "class_type": "ReferenceMultiLatent",
            "inputs": {
                "positive": ["instruction", 0],
                "vae": VAE,
                "resolution": "keep resolution",
                "images.image0": ["scaled", 0],
            },
        },
    }


def _edit_longcat() -> Graph:
    """As in ComfyUI's own template: every edit has a megapixel in its picture's shape."""
    scaled = node("ImageScaleToTotalPixels", megapixels=1.0, resolution_steps=16, upscale_method="lanczos")
    asked = node("TextEncodeQwenImageEdit", clip=["text encoder", 0], prompt=INSTRUCTION, vae=VAE, image=["scaled", 0])
    method = node("FluxKontextMultiReferenceLatentMethod", conditioning=["instruction", 0])
    method["inputs"]["reference_latents_method"] = "index"
    return {
        "scaled": {**scaled, "inputs": {**scaled["inputs"], "image": ["picture", 0]}},
        "latent": node("VAEEncode", pixels=["scaled", 0], vae=VAE),
        "instruction": asked,
        "prompt": method,
    }


def _scaled_klein(size: Size) -> dict[str, Any]:
    """The node that scales to the student's area, and what it takes. It knows hundredths of 2^20 px; a student too
    small for those gets the node that takes a size, and loses the picture's own ratio."""
    megapixels = round(size[0] * size[1] / 2**20, 2)
    if megapixels < SMALLEST_MEGAPIXELS:
        return {"kind": "ImageScale", "width": size[1], "height": size[0], "crop": "center"}
    return {"kind": "ImageScaleToTotalPixels", "megapixels": megapixels, "resolution_steps": 16}


def _words(prompt: str) -> dict[str, Any]:
    return node("CLIPTextEncode", clip=["text encoder", 0], text=prompt)


def _empty(kind: str, size: Size) -> dict[str, Any]:
    return node(kind, width=size[1], height=size[0], batch_size=1)


def _prompt_21(words: str, size: Size, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    side = round((size[0] * size[1]) ** 0.5 / 32) * 32  # the node takes multiples of 32
    made = node("TextEncodeQwenImage21", clip=["text encoder", 0], prompt=words, negative_prompt="", resolution=side)
    return {**made, "inputs": {**made["inputs"], **(more or {})}}
