"""Our graphs against what ComfyUI publishes of its nodes: `pip install comfyui-workflow-templates-json
comfyui-embedded-docs`; skipped without them (30 MB that nothing else needs). Last run with 0.1.123 and 0.5.15."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fewstep.export.graphs import (
    FILES,
    ComfyUIBase,
    graph,
)

templates_package = pytest.importorskip("comfyui_workflow_templates_json")
docs_package = pytest.importorskip("comfyui_embedded_docs")
TEMPLATES = Path(templates_package.__file__).parent / "templates"
DOCS = Path(docs_package.__file__).parent / "docs"
CASES = [
    *(("QwenImage21Pipeline", task, False) for task in ("t2i", "edit")),
    ("QwenImagePipeline", "t2i", False),
    *(("QwenImageEditPlusPipeline", task, zero) for task, zero in (("t2i", False), ("edit", False), ("edit", True))),
    *(("Flux2KleinPipeline", task, False) for task in ("t2i", "edit")),
    *(("LongCatImageEditPipeline", task, False) for task in ("t2i", "edit")),
    *(("Flux3ModularPipeline", task, False) for task in ("t2i", "edit")),
    *((pipeline, "t2i", False) for pipeline in ("ZImagePipeline", "LongCatImagePipeline")),
]
# In ComfyUI's source since its templates have three values for this node, and not yet on its page.
BEYOND_THE_PAGE = {("ImageScaleToTotalPixels", "resolution_steps")}
OF_ANOTHER_CHOICE = {("ReferenceMultiLatent", "megapixels")}  # asked where `resolution` is "resize", says the page


@cache
def page(kind: str) -> dict[str, bool]:
    """Inputs by name, as a node's page lists them; whether it marks one as required."""
    inputs = (DOCS / kind / "en.md").read_text(encoding="utf-8").partition("## Outputs")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in inputs.splitlines() if "|" in line]
    return {row[0].strip("`"): "Yes" in row[3:4] for row in rows if re.fullmatch(r"`[\w.]+`", row[0])}


@cache
def published() -> tuple[dict[str, list[str]], dict[tuple[str, str], set[str]]]:
    """Of every node of the templates: types of its outputs, and types of its inputs by name."""
    outputs: dict[str, list[str]] = {}
    inputs: dict[tuple[str, str], set[str]] = {}
    for node in nodes():
        if len(node.get("outputs", [])) >= len(outputs.get(node["type"], [])):
            outputs[node["type"]] = [one["type"] for one in node.get("outputs", [])]
        for one in node.get("inputs", []):
            inputs.setdefault((node["type"], one["name"]), set()).add(one["type"])
    return outputs, inputs


def nodes() -> Iterator[dict[str, Any]]:
    for file in TEMPLATES.glob("*.json"):
        workflow = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(workflow, dict) and "nodes" in workflow:
            yield from workflow["nodes"]
            for part in workflow.get("definitions", {}).get("subgraphs", []):
                yield from part["nodes"]


@pytest.mark.parametrize("size", [(1024, 768), (64, 64)], ids=str)
@pytest.mark.parametrize("weights", [{"lora": "x.safetensors"}, {"unet": "x.safetensors"}], ids=["lora", "unet"])
@pytest.mark.parametrize(("pipeline", "task", "zero"), CASES)
def test_nodes_inputs_and_links_are_comfyuis(
    pipeline: str, task: Any, zero: bool, weights: dict[str, str], size: tuple[int, int]
) -> None:
    made = graph(ComfyUIBase(pipeline, zero), task, "1, 0.9, 0", size, **weights)
    outputs, inputs = published()
    for node in made.values():
        kind, known = node["class_type"], page(node["class_type"])
        given = {name.partition(".")[0] for name in node["inputs"]}
        assert {name for name in given - set(known) if (kind, name) not in BEYOND_THE_PAGE} == set(), kind
        asked = {name for name, required in known.items() if required and (kind, name) not in OF_ANOTHER_CHOICE}
        assert asked <= given, kind
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                source, slot = made[value[0]]["class_type"], value[1]
                assert outputs[source][slot] in inputs[kind, name], (source, slot, kind, name)


@pytest.mark.parametrize("pipeline", FILES)
def test_files_of_the_bases_are_comfyuis(pipeline: str) -> None:
    files = FILES[pipeline]
    values = [node.get("widgets_values") or [] for node in nodes()]
    flat = {value for given in values if isinstance(given, list) for value in given if isinstance(value, str)}
    text = "\n".join(file.read_text(encoding="utf-8") for file in TEMPLATES.glob("*qwen_image*")) + "\n".join(flat)
    assert files.vae in flat
    for file in (files.unet, files.text_encoder):
        assert file in flat or file in text, file
    assert any(given[1:2] == [files.encoder_type] for given in values if isinstance(given, list) and given)


def test_the_official_students_graph_samples_as_ours() -> None:
    """ComfyUI's own template of Qwen-Image-2.1-Turbo, a few-step student: levels by ManualSigmas with a closing 0,
    plain Euler, guidance 1."""
    template = json.loads((TEMPLATES / "image_qwen_image_2_1_turbo_t2i.json").read_text(encoding="utf-8"))
    (part,) = template["definitions"]["subgraphs"]
    by_kind = {node["type"]: node for node in part["nodes"]}
    ours = {
        node["class_type"]
        for node in graph(ComfyUIBase("QwenImage21Pipeline"), "t2i", "1, 0", (64, 64), unet="x").values()
    }
    assert ours - set(by_kind) == {"BasicGuider", "SaveImage"}  # theirs: CFGGuider at 1, and a save outside the part
    assert by_kind["ManualSigmas"]["widgets_values"][0].endswith("0.414568, 0")
    assert by_kind["KSamplerSelect"]["widgets_values"] == ["euler"]
    assert by_kind["CFGGuider"]["widgets_values"] == [1]
