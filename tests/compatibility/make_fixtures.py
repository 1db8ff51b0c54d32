"""Writes fixtures/: what the code of one commit leaves on disk and prints, for the tests of this folder to hold.

They were made by commit 97a412e. A later version has to read, continue and print the same, so they are not made again
unless a format is changed on purpose; then say in the change's message which format, and what becomes of old files.

    git worktree add ../base 97a412e
    OMP_NUM_THREADS=1 PYTHONPATH=../base/src python -m tests.compatibility.make_fixtures

Takes some minutes on one core, and needs neither GPU nor network.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from tests.compatibility.held import (
    FIXTURES,
    ITERATIONS,
    LORA,
    MERGED,
    PRINTED,
    READERS,
    REPORT,
    RUN,
    SIX,
    STOPPED_AT,
    TWO,
    answers,
    fewstep,
    help_text,
    kept_as,
    page_text,
    student_facts,
    texts,
)
from tests.endpoint.fault_server import Call, FaultServer, Sent, says


def done(*words: object, code: int = 0) -> str:
    """The command's output; it has to end with this code."""
    sys.stderr.write(f"fewstep {' '.join(map(str, words))}\n")
    result = fewstep(*words)
    if result.exit_code != code:
        raise SystemExit(f"exit code {result.exit_code}: {result.output}\n{result.exception!r}")
    return result.output


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def written_json(path: Path, content: Any) -> None:
    write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


# ---- a run and its students


def run(to: Path) -> None:
    """An unbroken run, its records and its student's texts; then the same run as a kill in its fourth iteration leaves
    it, which is what the exports are made of."""
    done(*RUN)
    folder = Path("run/small")
    held_student(folder / "student", to / "student")
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    write(to / "unbroken.jsonl", "".join(lines))
    shutil.rmtree(folder / f"checkpoints/iteration-{ITERATIONS:06d}")
    shutil.rmtree(folder / "student")
    (folder / "student").mkdir()
    (folder / f"samples/iteration-{ITERATIONS:06d}.png").unlink()
    last = max(n for n, line in enumerate(lines) if json.loads(line)["iteration"] <= STOPPED_AT)
    write(folder / "metrics.jsonl", "".join(lines[: last + 1]))
    done(*LORA, "--to", "lora")
    shutil.copytree("lora", to / "lora", ignore=shutil.ignore_patterns("README.md"))
    held_student(Path("lora"), to / "lora")
    done(*MERGED, "--to", "merged")
    held_student(Path("merged"), to / "merged")
    shutil.copytree("run", to / "run")


def held_student(folder: Path, to: Path) -> None:
    for name in texts(folder):
        write(to / kept_as(name), (folder / name).read_text())
    written_json(to.with_suffix(".json"), student_facts(folder))


# ---- two galleries, judged and measured


def galleries(to: Path) -> None:
    """Two systems' answers to the same edits, a probe's and a scripted judge's verdicts, and all that is printed."""
    for folder, steps in ((SIX, 6), (TWO, 2)):
        drawn = ("--suite", "pocket-edit@12", "--steps", steps, "--device", "cpu", "--dtype", "fp32")
        done("generate", "pocket", *drawn, "--to", folder, "--system", f"{steps}-steps")
        done("pocket", "judge", folder)
        done("bench", "measure", folder, "--workers", "1")
    with FaultServer(seer) as server:
        judge = {"base_url": server.url, "model": "seer", "concurrency": 1}
        write(Path("seer.yaml"), yaml.safe_dump(judge))
        for folder in (SIX, TWO):
            done("judge", "run", folder, "--judge", "seer.yaml")
        done("judge", "pair", SIX, TWO, "--judge", "seer.yaml")
    away = {"base_url": "http://127.0.0.1:9/v1", "timeout_s": 1, "deadline_s": 1, "give_up_after": 1}  # nobody listens
    write(Path("seer.yaml"), yaml.safe_dump(judge | away))
    codes = {"compare.txt": None, "compare-probe.txt": None, "compare-psnr.txt": None}
    for name, words in PRINTED.items():
        result = fewstep(*words)
        assert result.exit_code == 0 or name in codes, result.output
        codes[name] = result.exit_code
        write(to / "figures" / name, result.output)
        if "--json" in words:
            shutil.copy(words[-1], to / "figures" / words[-1])
    written_json(to / "figures" / "exits.json", codes)
    written_json(to / "figures" / "readers.json", {name: metadata.version(name) for name in READERS})
    done(*REPORT)
    write(to / "figures" / "report.txt", page_text(Path("report/index.html")))
    shutil.copytree("galleries", to / "galleries")
    shutil.copy("seer.yaml", to / "seer.yaml")


def seer(call: Call) -> Sent:
    """A judge whose scores follow from the pictures; of pairs, its second answer is no JSON."""
    by_lot = int(hashlib.blake2b("".join(call.pictures()).encode(), digest_size=4).hexdigest(), 16)
    schema = call.body["response_format"]["json_schema"]["schema"]["properties"]
    if "winner" in schema:
        told: dict[str, Any] = {"winner": ("A", "B", "tie")[by_lot % 3], "reasoning": "so it is"}
        seer_pairs.append(call)
        return says("I would rather not say" if len(seer_pairs) == 2 else json.dumps(told))(call)
    score = 1 + by_lot % 9 / 2
    told = {"overall_score": score, "sub_scores": dict.fromkeys(schema["sub_scores"]["properties"], score)}
    return says(json.dumps(told | {"reasoning": "so it is", "failure_modes": []}))(call)


seer_pairs: list[Call] = []


# ---- what the command line says


def words(to: Path) -> None:
    write(to / "help.txt", help_text())
    write(to / "schema.txt", done("recipe", "schema"))
    for name in sorted(path.stem for path in recipes()):
        write(to / "recipes" / f"{name}.yaml", done("recipe", "show", name))
    with tempfile.TemporaryDirectory() as empty:
        written_json(to / "exits.json", answers(Path(empty)))


def recipes() -> list[Path]:
    import fewstep as package

    return list((Path(package.__file__).parent / "run" / "recipes").glob("*.yaml"))


if __name__ == "__main__":
    made = FIXTURES.with_name("fixtures.new")
    shutil.rmtree(made, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        os.environ["FEWSTEP_CACHE"] = f"{work}/cache"
        for part in (words, run, galleries):
            part(made)
    shutil.rmtree(FIXTURES, ignore_errors=True)
    made.rename(FIXTURES)
    sys.stderr.write(f"{FIXTURES} written\n")
