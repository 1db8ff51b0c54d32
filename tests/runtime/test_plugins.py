"""What other packages and programs add: found by name, loaded alone, refused with their distribution's name."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fewstep.backbones.embedded import POCKET, embedded_folder
from fewstep.backbones.fake_model import size_of_model
from fewstep.backbones.families import MODEL_FAMILIES, family_of, load_backbone
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.bench import measuring
from fewstep.bench.drafts import DraftCase, ShippedSuite, SuiteHeading
from fewstep.bench.gallery import begin_gallery
from fewstep.bench.measuring import run_metrics
from fewstep.bench.metrics.by_name import METRICS, metrics_named
from fewstep.bench.shipped import SUITES
from fewstep.bench.suites import copy_into_gallery, open_suite
from fewstep.cli.main import app
from fewstep.data.case_formats import CASE_FORMATS
from fewstep.data.case_sources import CASE_SOURCES
from fewstep.data.cases import Case
from fewstep.data.check import check_sources
from fewstep.data.sources import entries_of, read_source
from fewstep.runtime import plugins
from fewstep.runtime.errors import CaseError, ModelError, PluginError
from fewstep.runtime.plugins import ExtensionPoint

Package = Callable[..., None]

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
WAREHOUSE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def read(" in block)
HOUSE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class House" in block)
OFFERS = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])["project"]["entry-points"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Installs a package: as pip leaves it, a module and the metadata beside it."""

    def install(name: str, source: str, offers: dict[str, dict[str, str]]) -> None:
        site = tmp_path / f"site-{name}"
        (site / f"{name}-1.0.dist-info").mkdir(parents=True)
        lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in of.items()) for group, of in offers.items()]
        (site / f"{name}-1.0.dist-info" / "entry_points.txt").write_text("\n".join(lines))
        (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        plugins._offers.cache_clear()

    before = set(sys.modules)
    yield install
    plugins._offers.cache_clear()
    for name in {"warehouse", "boxes", "rival", "broken", "house"} - before:
        sys.modules.pop(name, None)


def test_the_package_of_the_page_offers_cases_and_a_format(package: Package, tmp_path: Path) -> None:
    package("warehouse", WAREHOUSE, OFFERS)
    assert [case.id for case in read_source("warehouse:red:2", "t2i", tmp_path)] == ["red-0", "red-1"]
    (tmp_path / "a.pipe").write_text("a cat|a dog")
    (tmp_path / "b.pipe").write_text("a cow||a hen")
    report = check_sources([tmp_path / "a.pipe", tmp_path / "b.pipe", "warehouse:blue:3"])
    assert report.usable == 7
    assert [problem.rpartition("/")[2] for problem in report.problems] == ["b.pipe:2: the prompt is empty"]
    several = [entry.id for entry in entries_of(f"{tmp_path}/?.pipe", tmp_path / "x") if isinstance(entry, Case)]
    assert several == ["a/1", "a/2", "b/1", "b/3"]
    with pytest.raises(CaseError, match=r"cases come as .*\.tgz, \.pipe \("):
        list(entries_of(str(Path(__file__)), tmp_path))


def test_an_archive_of_a_package_is_unpacked_once(package: Package, tmp_path: Path) -> None:
    source = """
from fewstep.data.cases import Case
from fewstep.data.formats.format import ArchiveFormat

def read(path, folder, thorough):
    folder.mkdir(parents=True)  # a second time would fail
    (folder / "note.txt").write_text("unpacked")
    yield Case("one", "t2i", path.read_text())

BOXES = ArchiveFormat(read)
"""
    package("boxes", source, {"fewstep.case_formats": {"box.gz": "boxes:BOXES"}})
    (tmp_path / "b.box.gz").write_text("a cow")
    for _ in range(2):
        assert [case.prompt for case in read_source(str(tmp_path / "b.box.gz"), "t2i", tmp_path / "cache")] == ["a cow"]
    assert len(list((tmp_path / "cache").rglob("note.txt"))) == 1


def test_an_offered_suite_is_drawn_cut_listed_and_measured(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    package("warehouse", WAREHOUSE, OFFERS)
    suite = open_suite("crates@2")
    assert [q.expect["text"] for q in suite.questions] == [["0"], ["1"]]
    listed = CliRunner().invoke(app, ["bench", "suites"])
    assert "crates" in listed.output
    gallery = begin_gallery(tmp_path / "g", "grey", suite.identity, {}, "adopted")
    copy_into_gallery(suite, tmp_path / "g")
    for question in suite.questions:
        for seed in question.seeds:
            gallery.add(question.case.id, seed, Image.new("RGB", (8, 8), (7, 7, 7)), {})
    monkeypatch.setattr(measuring, "WORTH_POOLING", 1)
    for workers in (1, 2):
        found = run_metrics(tmp_path / "g", metrics_named(["brightness"]), workers)["brightness"]
        assert [each.values for each in found] == [{"mean": 7.0}] * 4
        (tmp_path / "g" / "metrics" / "brightness.jsonl").unlink()


def test_a_package_that_is_broken_is_refused_by_its_name_and_harms_nobody_else(
    package: Package, tmp_path: Path
) -> None:
    package("warehouse", WAREHOUSE, OFFERS)
    package(
        "broken",
        "import nowhere_to_be_found\n",
        {"fewstep.case_sources": {"torn": "broken:read"}, "fewstep.suites": {"torn-suite": "broken:SUITE"}},
    )
    assert len(read_source("warehouse:red:1", "t2i", tmp_path)) == 1, "the other one was not loaded"
    assert "torn" in CASE_SOURCES.names()
    for ask in (lambda: read_source("torn:1", "t2i", tmp_path), lambda: open_suite("torn-suite")):
        with pytest.raises(PluginError, match=r"of broken cannot be loaded .*nowhere_to_be_found.*uninstall broken"):
            ask()
    shown = CliRunner().invoke(app, ["cases", "check", "torn:1"])
    assert shown.exit_code == 2
    assert len(shown.output.strip().splitlines()) == 1
    assert "Traceback" not in shown.output


@pytest.mark.parametrize(
    ("group", "name", "source", "words"),
    [
        ("fewstep.case_sources", "one", "thing = 3", "is no function"),
        (
            "fewstep.case_formats",
            "one",
            "def thing(path, thorough): ...",
            "is neither a FileFormat nor an ArchiveFormat",
        ),
        ("fewstep.suites", "one", "thing = None", "is no ShippedSuite"),
        ("fewstep.metrics", "one", "thing = None", "is no Metric"),
        ("fewstep.suites", "one", WAREHOUSE + "thing = CRATES", "calls itself 'crates'"),
        ("fewstep.metrics", "one", WAREHOUSE + "thing = BRIGHTNESS", "calls itself 'brightness'"),
        ("fewstep.families", "one", "thing = int", "is no subclass of PipelineBackbone"),
        ("fewstep.families", "one", HOUSE + "thing = House", "has no pipeline class 'one'"),
        (
            "fewstep.families",
            "one",
            HOUSE + "class thing(House):\n    pipelines = {'one': None}\n    family = 'qwen-image'\n",
            "calls its family 'qwen-image', as one of fewstep's own does",
        ),
        (
            "fewstep.families",
            "one",
            "from fewstep.backbones.pipeline_backbone import PipelineBackbone\nclass thing(PipelineBackbone): ...",
            "does not define .*velocity",
        ),
    ],
)
def test_what_is_not_what_it_is_offered_as_is_refused(
    package: Package, group: str, name: str, source: str, words: str
) -> None:
    package("broken", source, {group: {name: "broken:thing"}})
    points: list[ExtensionPoint[object]] = [CASE_SOURCES, CASE_FORMATS, SUITES, METRICS, MODEL_FAMILIES]  # type: ignore[list-item]
    (point,) = [each for each in points if each.group == group]
    with pytest.raises(PluginError, match=rf"broken:thing, of broken\) {words}.*docs/extending\.md"):
        point.find(name)


def test_two_of_one_name_are_refused_and_others_are_not(package: Package, tmp_path: Path) -> None:
    package("warehouse", WAREHOUSE, OFFERS)
    package("rival", WAREHOUSE, {"fewstep.case_sources": {"warehouse": "rival:read", "pocket": "rival:read"}})
    for source in ("warehouse:red:1", "pocket:t2i:1"):
        with pytest.raises(PluginError, match=r"is offered by \w+ and by \w+, and nothing says which is meant"):
            read_source(source, "t2i", tmp_path)
    assert open_suite("crates@1").name == "crates@1"
    package("broken", WAREHOUSE, {"fewstep.metrics": {"sanity": "broken:BRIGHTNESS"}})
    with pytest.raises(PluginError, match="metric 'sanity' is offered by fewstep and by broken"):
        metrics_named(["sanity"])


def house_folder(to: Path) -> Path:
    """The pocket model, as a folder of the house's own pipeline class."""
    shutil.copytree(embedded_folder(POCKET), to)
    index = json.loads((to / "model_index.json").read_text())
    (to / "model_index.json").write_text(json.dumps(index | {"_class_name": "HousePipeline"}))
    return to


def test_a_family_of_a_package_is_loaded_planned_and_told_apart(package: Package, tmp_path: Path) -> None:
    folder = house_folder(tmp_path / "model")
    with pytest.raises(ModelError, match="names the class HousePipeline; the families that fewstep knows are: Flux2"):
        family_of(folder)
    package(
        "house", HOUSE, tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])["project"]["entry-points"]
    )
    loaded = load_backbone(folder, dtype=torch.float32)
    assert loaded.family == "house"
    assert size_of_model(str(folder)).family is type(loaded)
    assert family_of(embedded_folder(POCKET)) is QwenImage21
    package("rival", HOUSE, {"fewstep.families": {"HousePipeline": "rival:House"}})
    with pytest.raises(PluginError, match=r"'HousePipeline' is offered by \w+ and by \w+, and nothing says which"):
        family_of(folder)
    with pytest.raises(PluginError, match="there is one of this name"):
        MODEL_FAMILIES.register("QwenImagePipeline", QwenImage21)


def test_a_program_registers_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CASE_SOURCES, "_registered", {})

    def shelf(source: str, task: str | None, cache: Path) -> Path:
        (cache / "shelf.txt").write_text("a book\n" * 2)
        return cache / "shelf.txt"

    CASE_SOURCES.register("shelf", shelf)
    assert len(read_source("shelf:all", "t2i", tmp_path)) == 2
    with pytest.raises(PluginError, match="there is one of this name"):
        CASE_SOURCES.register("shelf", shelf)
    with pytest.raises(PluginError, match="there is one of this name"):
        CASE_SOURCES.register("pocket", shelf)
    with pytest.raises(PluginError, match="cannot be a scheme"):
        CASE_SOURCES.register("My Shelf", shelf)
    odd = ShippedSuite(SuiteHeading("odd", "1", "t2i"), "", 1, lambda: iter([DraftCase("a", "a", "b")]))
    with pytest.raises(PluginError, match="calls itself 'odd'"):
        SUITES.register("even", odd)


PROGRAM = """
import multiprocessing
from pathlib import Path

from fewstep.data.case_formats import CASE_FORMATS
from fewstep.data.case_sources import CASE_SOURCES
from fewstep.data.sources import read_source


def shelf(source, task, cache):
    return Path(__file__).with_name("shelf.txt")


CASE_SOURCES.register("shelf", shelf)


def count(source):
    return len(read_source(source, "t2i", Path("cache")))


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(count, ["shelf:all", "pocket:t2i:2"]))
"""


def test_what_a_program_registers_is_there_in_its_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "shelf.txt").write_text("a book\n" * 3)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.strip() == "[3, 2]", done.stderr


def test_a_checkout_speaks_for_itself_whatever_an_older_install_says(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("fewstep", "", {"fewstep.case_sources": {"pocket": "fewstep.long_gone:read"}})  # as an old install left it
    assert len(read_source("pocket:t2i:2", "t2i", tmp_path)) == 2
    monkeypatch.setattr(plugins, "PROJECT", tmp_path / "pyproject.toml")  # as in a wheel: no checkout around it
    plugins._offers.cache_clear()
    with pytest.raises(PluginError, match=r"'pocket' of fewstep cannot be loaded .*long_gone"):
        read_source("pocket:t2i:2", "t2i", tmp_path)


def test_an_unknown_scheme_says_what_there_is(package: Package, tmp_path: Path) -> None:
    with pytest.raises(
        CaseError, match=r"no case source 'poket' in this installation, which has pocket, pocket-harder\. Install"
    ):
        read_source("poket:t2i:2", "t2i", tmp_path)
    (tmp_path / "odd:name.txt").write_text("a cat\n")
    assert len(read_source(f"{tmp_path}/odd:name.txt", "t2i", tmp_path)) == 1, "a colon alone is no scheme"


def test_weights_are_made_from_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel has no pocket_making: one clear line and exit code 2."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pocket_making"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pocket_making", None)  # type: ignore[arg-type]
    for command in (["train"], ["specialise", "text"]):
        shown = CliRunner().invoke(app, ["pocket", *command])
        assert shown.exit_code == 2
        assert "pocket_making is not part of the installed package" in shown.output.replace("\n", " ")
