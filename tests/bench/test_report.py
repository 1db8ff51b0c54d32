"""A report is one folder that holds everything of its galleries, refers to nothing outside, and runs nothing that a
prompt or a judge brings along."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image
from typer.testing import CliRunner

from fewstep.bench import ranks
from fewstep.bench.report.build import build_report
from fewstep.bench.report.pictures import PictureMode
from fewstep.bench.suite import Suite
from fewstep.cli.main import app
from fewstep.runtime.errors import FewstepError, GalleryError
from tests.bench.report_galleries import REFUSAL, WORDS, Made, gallery, suite
from tests.pages.html_outline import HtmlOutline

EVIL = '</script><script>alert("x")</script><img src="https://example.org/x.png" onerror=alert(1)>'


def data_of(folder: Path) -> dict[str, Any]:
    text = (folder / "data.js").read_text()
    assert text.startswith("window.fewstepReport = ")
    assert text.endswith(";\n")
    return dict(json.loads(text.removeprefix("window.fewstepReport = ").removesuffix(";\n")))


def page_of(folder: Path) -> HtmlOutline:
    return HtmlOutline((folder / "index.html").read_text())


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return suite(tmp_path_factory.mktemp("suite") / "edit", "edit", 12, prompts={2: EVIL})


@pytest.fixture(scope="module")
def galleries(edits: Suite, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Teacher, a student with a failed picture and a refused one, and a rival with pictures too large for a list."""
    folder = tmp_path_factory.mktemp("galleries")
    return [
        gallery(folder / "teacher", edits, Made("teacher", 4.2)),
        gallery(folder / "student", edits, Made("student", 4.1, failures={7: EVIL}, refused=(3,))),
        gallery(folder / "rival", edits, Made("rival", 2.8, size=400)),
    ]


@pytest.fixture(scope="module")
def made(galleries: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("report") / "here"
    assert build_report(galleries, to) == to / "index.html"
    return to


# ---- what is in the folder


def test_nothing_outside_is_referred_to(made: Path) -> None:
    page = page_of(made)
    led = [value for name in ("src", "href", "action", "srcset", "data", "poster") for value in page.values(name)]
    assert led
    assert not [value for value in led if not value.startswith("#") and not (made / value).is_file()]
    styles = re.search(r"<style>(.*?)</style>", (made / "index.html").read_text(), re.DOTALL)
    assert styles
    for text in (styles[1], (made / "report.js").read_text(), (made / "copy.js").read_text()):
        assert not re.search(r"https?:|url\(|@import|//[\w.-]+\.\w+/|fetch\(|XMLHttp|import\(", text)


def test_what_a_prompt_brings_along_is_text(made: Path) -> None:
    page = page_of(made)
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert [attrs.get("src") for tag, attrs in page.tags if tag == "script"] == ["data.js", "report.js", "copy.js"]
    assert "alert" in page.text  # the failure's words are there, as words
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    for script in ("report.js", "copy.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", (made / script).read_text())


def test_the_data_hold_every_picture_and_every_word(made: Path, edits: Suite) -> None:
    data = data_of(made)
    assert data["systems"] == ["teacher", "student", "rival"]
    assert [(row[3], row[4]) for row in data["rows"]] == [(q.case.id, q.seeds[0]) for q in edits.questions]
    assert [row[5] for row in data["rows"]] == [q.case.prompt for q in edits.questions]
    for row in data["rows"]:
        assert len(row[6]) == 1  # the source
        for picture in [*row[6], *(answer[0] for answer in row[7] if answer[0])]:
            assert all((made / name).is_file() for name in picture if name)
    student = [row[7][1] for row in data["rows"]]
    assert [answer[3] for answer in student] == [EVIL if i == 7 else "" for i in range(12)]
    assert {data["statuses"][v[1]] for v in student[3][2]} == {"refused"}
    assert {v[5] for v in student[3][2]} == {REFUSAL}
    assert all(v[2] is None for v in student[3][2])
    assert {v[5] for row in data["rows"] for v in row[7][0][2]} == set(WORDS)
    assert data["criteria"][student[0][2][0][3]] == ["instruction_following", "source_preservation", "visual_quality"]


def test_scores_of_the_browser_are_those_of_the_gallery(made: Path, galleries: list[Path]) -> None:
    data = data_of(made)
    lines = [json.loads(line) for line in (galleries[0] / "verdicts" / "judge-b.jsonl").read_text().splitlines()]
    at = next(i for i, measure in enumerate(data["measures"]) if measure["name"] == "judge-b")
    assert [row[7][0][1][at] for row in data["rows"]] == [line["score"] for line in lines]
    noise = next(measure for measure in data["measures"] if measure["name"] == "flat noise: luma")
    assert noise == {"name": "flat noise: luma", "better": "lower", "judge": False, "metric": True}


def test_large_pictures_have_a_light_one_and_small_ones_are_their_own(made: Path, galleries: list[Path]) -> None:
    row = data_of(made)["rows"][0]
    small, large = row[7][0][0], row[7][2][0]
    assert small[1] == 0
    with Image.open(made / large[1]) as light, Image.open(made / large[0]) as whole:
        assert max(light.size) == 320
        assert whole.size == (400, 400)
    copied = (made / small[0]).read_bytes()
    assert copied == (galleries[0] / "pictures" / "000000.png").read_bytes()


# ---- what is on the page


def test_ranks_are_those_of_the_rule_and_withheld_where_scores_are_missing(made: Path, galleries: list[Path]) -> None:
    tables = data_of(made)["copies"]
    lines = [line for line in tables["ranks.md"].splitlines() if line.startswith("| ")][2:]
    cells = {line.split(" | ")[0].strip("| "): [c.strip() for c in line.strip("|").split("|")] for line in lines}
    assert cells["student"][1] == "withheld"  # 10 of 12 scored
    assert (cells["teacher"][1], cells["rival"][1]) == ("1", "2")
    table: dict[str, dict[str, dict[str, float]]] = {"teacher": {}}
    for judge in ("judge-a", "judge-b"):
        of: dict[str, list[float]] = {}
        for line in (galleries[0] / "verdicts" / f"{judge}.jsonl").read_text().splitlines():
            record = json.loads(line)
            of.setdefault(record["category"], []).append(record["score"])
        table["teacher"][judge] = {category: sum(scores) / len(scores) for category, scores in of.items()}
    assert cells["teacher"][2].split(" ")[0] == f"{ranks.paper_rule(table)['teacher']:.2f}"
    assert "83.3 %" in cells["student"][-1]


def test_every_section_is_there_and_reachable(made: Path) -> None:
    page = page_of(made)
    anchors = [href for href in page.values("href") if href.startswith("#") and "?" not in href]
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {anchor.removeprefix("#") for anchor in anchors} <= set(ids)
    assert {"ranks", "categories", "metrics", "cases", "judges", "failures", "cost", "reproduce"} <= set(ids)


def test_the_reproducibility_block_names_what_identifies_a_result(made: Path, edits: Suite) -> None:
    text = page_of(made).text
    for phrase in (
        edits.hash,
        "teacher-" + "c3" * 8,
        "1, 0.9, 0.75, 0.5",
        "judge-a-2026-05",
        "edit-v1",
        "made-edit",
        "torch 2.13",
    ):
        assert phrase in text, phrase


def test_failures_are_counted_with_the_servers_words(made: Path) -> None:
    lines = data_of(made)["copies"]["failures.md"]
    assert "| student: picture not drawn | 1 | 12 | " in lines
    assert f"| student: judge-a: refused | 1 | 11 | “{REFUSAL}” |" in lines


def test_every_table_can_be_copied(made: Path) -> None:
    wanted = page_of(made).values("data-copy")
    copies = data_of(made)["copies"]
    assert set(wanted) == set(copies)
    for name, text in copies.items():
        assert text.startswith("**" if name.endswith(".md") else "\\begin{table}"), name


def test_a_gallery_without_verdicts_still_shows_pictures_and_metrics(edits: Suite, tmp_path: Path) -> None:
    alone = gallery(tmp_path / "g", edits, Made("alone", judges=()))
    build_report([alone], tmp_path / "r")
    page, data = page_of(tmp_path / "r"), data_of(tmp_path / "r")
    assert "alone has no verdicts on made-edit" in page.text
    assert "No judge has seen these pictures yet" in page.text
    assert "ranks.md" not in data["copies"]
    assert "metrics.md" in data["copies"]
    assert len(data["rows"]) == 12


def test_a_gallery_without_metrics_is_named(edits: Suite, tmp_path: Path) -> None:
    plain = gallery(tmp_path / "g", edits, Made("plain", judges=(), metrics=False))
    build_report([plain], tmp_path / "r", keep=PictureMode.NONE)
    assert "plain has no metrics on made-edit" in page_of(tmp_path / "r").text
    assert data_of(tmp_path / "r")["measures"] == []


def test_two_suites_stand_beside_each_other_and_are_never_averaged(edits: Suite, tmp_path: Path) -> None:
    t2i = suite(tmp_path / "s", "t2i", 6, seeds=2)
    folders = [gallery(tmp_path / f"{n}-e", edits, Made(n, pictures=False)) for n in ("teacher", "student")]
    folders.append(gallery(tmp_path / "student-t", t2i, Made("student", pictures=False)))
    build_report(folders, tmp_path / "r", reference="teacher", keep=PictureMode.NONE)
    data, text = data_of(tmp_path / "r"), page_of(tmp_path / "r").text
    assert {"ranks-made-edit.md", "ranks-made-t2i.md"} <= set(data["copies"])
    assert "teacher has no gallery for made-t2i, where the others are held against student" in text
    assert len(data["rows"]) == 12 + 6 * 2
    assert [row[7][0] for row in data["rows"] if data["suites"][row[0]] == "made-t2i"] == [0] * 12


def test_a_part_of_a_suite_is_called_one(edits: Suite, tmp_path: Path) -> None:
    part = gallery(tmp_path / "g", edits, Made("part"))
    manifest = part / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:9]))
    build_report([part], tmp_path / "r", keep=PictureMode.NONE)
    text = page_of(tmp_path / "r").text
    assert "These galleries hold 9 of the 12 pictures of made-edit" in text
    assert len(data_of(tmp_path / "r")["rows"]) == 9


def test_a_suite_that_is_gone_costs_the_sources_alone(edits: Suite, tmp_path: Path) -> None:
    orphan = gallery(tmp_path / "g", edits, Made("orphan"))
    shutil.rmtree(orphan / "suite")
    build_report([orphan], tmp_path / "r")
    data = data_of(tmp_path / "r")
    assert "is not here, or has changed" in page_of(tmp_path / "r").text
    assert [row[6] for row in data["rows"]] == [[]] * 12
    assert "ranks.md" in data["copies"]


def test_pairs_come_with_strengths_and_what_the_first_place_is_worth(galleries: list[Path], tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in galleries[:2]]
    rows = [json.loads(line) for line in (folders[0] / "manifest.jsonl").read_text().splitlines()]
    won = ["first", "first", "tie", "first", "second", "first"]
    records = [
        {name: row[name] for name in ("case", "seed", "task", "category")}
        | {"key": f"{i}{order}", "judge": "vlm", "model": "vlm-1", "protocol": "pair-v1", "status": "ok"}
        | {"first": order, "second": ({"teacher", "student"} - {order}).pop(), "won": won[i % 6]}
        for i, row in enumerate(rows)
        for order in ("teacher", "student")
    ]
    records.append(records[0] | {"status": "refused", "won": None, "repeat": 1})
    place = folders[0] / "pairs" / "student" / "vlm.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text("".join(json.dumps(record) + "\n" for record in records))
    build_report(folders, tmp_path / "r", keep=PictureMode.NONE)
    copied = data_of(tmp_path / "r")["copies"]["pairs-vlm.md"]
    rates = [line for line in copied.splitlines() if line.startswith(("| teacher", "| student"))]
    assert all("| 50 % (" in line for line in rates)  # both orders agree on the place, and know nothing of the systems
    assert "The first place is worth +" in copied
    assert "24 answers" in copied
    assert "1 got no answer and count for nobody" in copied


@pytest.mark.parametrize(("margin", "phrase"), [(0.0, "is worse than"), (2.5, "is as good as")])
def test_the_first_sentence_knows_the_margin(galleries: list[Path], tmp_path: Path, margin: float, phrase: str) -> None:
    build_report([galleries[0], galleries[2]], tmp_path / "r", keep=PictureMode.NONE, margin=margin)
    text = page_of(tmp_path / "r").text
    assert f"rival {phrase} teacher" in text
    assert ("margin 2.5" in text) is bool(margin)


def test_nothing_follows_where_a_judge_refused_a_third(galleries: list[Path], edits: Suite, tmp_path: Path) -> None:
    shy = gallery(tmp_path / "shy", edits, Made("shy", 4.9, refused=(0, 4, 7, 9)))
    build_report([galleries[2], shy], tmp_path / "r", keep=PictureMode.NONE)
    text = page_of(tmp_path / "r").text
    assert "nothing follows for shy: 16 of 24 pairs have both scores" in text
    assert "shy is better" not in text
    lines = [line for line in data_of(tmp_path / "r")["copies"]["ranks.md"].splitlines() if line.startswith("| shy")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")][5] == "–"


def test_a_category_that_one_judge_refuses_leaves_no_average(
    galleries: list[Path], edits: Suite, tmp_path: Path
) -> None:
    shy = gallery(tmp_path / "shy", edits, Made("shy"))
    file = shy / "verdicts" / "judge-b.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    silent = {"status": "refused", "score": None, "sub_scores": {}}
    file.write_text("".join(json.dumps(v | silent if v["category"] == "style" else v) + "\n" for v in lines))
    build_report([galleries[2], shy], tmp_path / "r", keep=PictureMode.NONE)
    assert "nothing follows for shy: some judge has no pair of style" in page_of(tmp_path / "r").text
    result = CliRunner().invoke(app, ["bench", "compare", str(shy), str(galleries[2])])
    assert result.exit_code == 3
    assert "style: no pair has both scores under every judge" in " ".join(result.output.split())
    alone = CliRunner().invoke(app, ["bench", "compare", str(shy), str(galleries[2]), "--judge", "judge-a"])
    assert alone.exit_code in (0, 1), alone.output


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"model": "another-judge-9b"}, "model"),
        ({"protocol": "mine-v7"}, "protocol"),
        ({"asked": "f00d"}, "model and parameters"),
        ({"words": "f00d"}, "wording"),
    ],
)
def test_two_judges_of_one_name_are_refused(
    galleries: list[Path], tmp_path: Path, change: dict[str, str], difference: str
) -> None:
    one, other = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in (galleries[0], galleries[2]))
    for folder, facts in ((one, {"asked": "beef", "words": "beef"} if set(change) & {"asked", "words"} else {}),
                          (other, change)):  # fmt: skip
        file = folder / "verdicts" / "judge-a.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line | facts) + "\n" for line in lines))
    for code, (verb, *words) in ((2, ["report", "--to", str(tmp_path / "r")]), (3, ["compare"]), (2, ["rank"])):
        result = CliRunner().invoke(app, ["bench", verb, str(one), str(other), *words])
        assert result.exit_code == code, result.output
        assert f"judge judge-a is not one judge: {difference} " in " ".join(result.output.split())
    assert CliRunner().invoke(app, ["bench", "rank", str(one), str(other), "--judge", "judge-b"]).exit_code == 0


def test_a_server_that_renames_its_model_is_mentioned(galleries: list[Path], tmp_path: Path) -> None:
    one, other = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in (galleries[0], galleries[2]))
    for folder, model in ((one, "m-2026-05"), (other, "m-2026-08")):
        file = folder / "verdicts" / "judge-a.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line | {"asked": "beef", "model": model}) + "\n" for line in lines))
    build_report([one, other], tmp_path / "r", keep=PictureMode.NONE)
    assert "several names of its server (m-2026-05, m-2026-08)" in page_of(tmp_path / "r").text


# ---- pictures


def test_linked_pictures_are_found_under_any_name(edits: Suite, tmp_path: Path) -> None:
    odd = gallery(tmp_path / "x #1?50%", edits, Made("odd"))
    build_report([odd], tmp_path / "r", keep=PictureMode.LINKED)
    link = data_of(tmp_path / "r")["rows"][0][7][0][0][0]
    assert not set(link) & set("#? ")
    assert (tmp_path / "r" / unquote(link)).resolve() == (odd / "pictures" / "000000.png").resolve()


def test_linked_pictures_stay_where_they_are(galleries: list[Path], tmp_path: Path) -> None:
    build_report(galleries, tmp_path / "r", keep=PictureMode.LINKED)
    assert not (tmp_path / "r" / "pictures").exists()
    row = data_of(tmp_path / "r")["rows"][0]
    assert (tmp_path / "r" / row[7][2][0][0]).resolve() == (galleries[2] / "pictures" / "000000.png").resolve()
    assert (tmp_path / "r" / row[7][2][0][1]).is_file()


def test_no_pictures_means_none(galleries: list[Path], tmp_path: Path) -> None:
    build_report(galleries, tmp_path / "r", keep=PictureMode.NONE)
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["copy.js", "data.js", "index.html", "report.js"]
    assert not data_of(tmp_path / "r")["pictures"]


def test_a_renewed_report_keeps_no_picture_of_the_last_one(galleries: list[Path], tmp_path: Path) -> None:
    to = tmp_path / "r"
    build_report(galleries, to)
    (to / "pictures" / "mine.png").write_bytes(b"not ours")
    before = len(list((to / "pictures").iterdir()))
    build_report(galleries[:1], to)
    after = {path.name for path in (to / "pictures").iterdir()}
    assert before > len(after)
    assert "mine.png" in after
    assert not list((to / "light").iterdir())
    used = {name for row in data_of(to)["rows"] for picture in (*row[6], row[7][0][0]) for name in picture if name}
    assert {f"pictures/{name}" for name in after - {"mine.png"}} == used


def test_a_torn_picture_is_absent_in_the_report(edits: Suite, tmp_path: Path) -> None:
    torn = gallery(tmp_path / "g", edits, Made("torn"))
    (torn / "pictures" / "000004.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    build_report([torn], tmp_path / "r")
    assert data_of(tmp_path / "r")["rows"][4][7][0][0] == 0


# ---- refusals


def changed(folder: Path, **changes: Any) -> Path:
    heading = json.loads((folder / "gallery.json").read_text())
    (folder / "gallery.json").write_text(json.dumps(heading | changes))
    return folder


def test_hashes_are_not_mixed(galleries: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(galleries[1], tmp_path / "other")
    changed(other, suite={"name": "made-edit", "version": "1", "hash": "f" * 32})
    with pytest.raises(GalleryError, match="answers to different questions"):
        build_report([galleries[0], other], tmp_path / "r", keep=PictureMode.NONE)
    assert not (tmp_path / "r").exists()


def test_two_of_one_name_are_refused(galleries: list[Path], tmp_path: Path) -> None:
    twin = shutil.copytree(galleries[0], tmp_path / "twin")
    with pytest.raises(GalleryError, match="both called teacher"):
        build_report([galleries[0], twin], tmp_path / "r", keep=PictureMode.NONE)


def test_suites_without_a_common_system_are_refused(galleries: list[Path], tmp_path: Path) -> None:
    alone = gallery(tmp_path / "g", suite(tmp_path / "s", "t2i", 3), Made("alone"))
    with pytest.raises(GalleryError, match="no system has answered both"):
        build_report([galleries[0], alone], tmp_path / "r", keep=PictureMode.NONE)


@pytest.mark.parametrize(
    ("reference", "place", "message"),
    [
        ("techer", "r", "no gallery of that system. There are teacher"),
        (None, "taken", "holds other things"),
        (None, "file", "is a file"),
    ],
)
def test_refused_before_anything_is_written(
    galleries: list[Path], tmp_path: Path, reference: str | None, place: str, message: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FewstepError, match=message):
        build_report(galleries[:1], tmp_path / place, reference=reference)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "r").exists()


def test_the_command_refuses_with_2_and_prints_where_the_report_is(galleries: list[Path], tmp_path: Path) -> None:
    runner, to = CliRunner(), tmp_path / "r"
    refused = runner.invoke(app, ["bench", "report", str(tmp_path), "--to", str(to)])
    assert refused.exit_code == 2
    both = ["--no-pictures", "--link-pictures"]
    assert runner.invoke(app, ["bench", "report", str(galleries[0]), "--to", str(to), *both]).exit_code == 2
    assert not to.exists()
    result = runner.invoke(app, ["bench", "report", *map(str, galleries), "--to", str(to), "--no-pictures"])
    assert result.exit_code == 0, result.output
    assert "index.html" in result.output
