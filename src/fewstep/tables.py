"""What the commands print that answer a question and change nothing."""

import torch
from rich.console import Console
from rich.table import Table

from fewstep import recipe as recipes
from fewstep import rundir
from fewstep.backbones.families import FAMILIES, POCKET, family_of, load_backbone, pocket_folder
from fewstep.backbones.folder import folder_of, read_json
from fewstep.conditioning import stack
from fewstep.export.card import licence_of
from fewstep.flow.noise import Draw


def list_recipes(console: Console) -> None:
    table = Table("recipe", "model", "size", "iterations", "tasks t2i:edit")
    for name in recipes.shipped():
        r = recipes.load(name)
        size, tasks = f"{r.size[0]} x {r.size[1]}", ", then ".join(map(str, r.mixture.values))
        table.add_row(name, r.model, size, f"{r.run.iterations:,}", tasks)
    console.print(table)


def show_schema(console: Console) -> None:
    for note in recipes.describe():
        console.print(f"[bold]{note.key}[/]  [dim]{note.type}, default {note.default}[/]", highlight=False)
        if note.description:
            console.print(f"    {note.description}", highlight=False, markup=False)


def doctor(model: str | None, console: Console) -> None:
    """The machine; and of a model: whether its folder is whole, its family, licence and sampler, and one network call.

    Raises:
        ModelError: what is wrong with the model, and how to mend it.
    """
    table = Table(show_header=False, title="this machine")
    facts = rundir.environment()
    for name, version in facts["versions"].items():
        table.add_row(name, version)
    table.add_row("python", facts["python"])
    table.add_row("processors", f"{facts['processors']} ({torch.get_num_threads()} threads for torch)")
    table.add_row("bfloat16 on the CPU", "fast" if _fast_bfloat16() else "slow here: set run.precision=fp32")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        table.add_row(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        table.add_row("cuda", "none")
    console.print(table)
    if model is not None:
        _model(model, console)


def _fast_bfloat16() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _model(source: str, console: Console) -> None:
    folder = folder_of(pocket_folder() if source == POCKET else source)
    family_of(folder)
    index = read_json(folder / "model_index.json")
    backbone = load_backbone(source, dtype=torch.bfloat16)
    table = Table(show_header=False, title=source)
    table.add_row("folder", str(folder))
    table.add_row("family", f"{backbone.family} ({index['_class_name']}; known: {', '.join(sorted(FAMILIES))})")
    table.add_row("licence", licence_of(folder).words)
    count = sum(p.numel() for p in backbone.transformer.parameters())
    table.add_row("transformer", f"{count / 1e6:,.1f} M parameters")
    sigmas = index.get("sample_sigmas")
    table.add_row(
        "sampler", f"student at {sigmas}" if sigmas else f"teacher, {backbone.default_steps} steps by default"
    )
    guidance = backbone.default_guidance
    table.add_row("guidance", f"{guidance.scale:g}" + (", kept norm" if guidance.keep_norm else ""))
    side = backbone.size_multiple * 2
    cond = stack(backbone.encode(["a red house"], None, (side, side)))
    z_BND = Draw(0).normal((1, *backbone.noise_shape(cond.layout)), "doctor").to(cond.text_BLC.dtype)
    with torch.no_grad():
        v_BND = backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond)
    rms = v_BND.float().square().mean().sqrt().item()
    table.add_row(
        "one network call", f"answers, rms velocity {rms:.2f}" if rms == rms else "answers NaN: damaged weights"
    )
    console.print(table)
