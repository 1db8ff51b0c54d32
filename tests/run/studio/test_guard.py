"""Who is answered, and who is not: other names, other sites, paths that leave a run, links, the token."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.places import file_inside
from tests.run.studio.conftest import Served
from tests.run.studio.served import studio_at
from tests.run.studio.small_runs import small_run

PICTURE = "samples/pictures/teacher-00.png"


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, timeout=30) as client:
        yield client


def sentence(answer: httpx.Response) -> str:
    return str(answer.json()["error"])


def test_the_page_has_its_rules(http: httpx.Client, served: Served) -> None:
    page = http.get("/")
    assert page.status_code == 200
    assert served.studio.page_token in page.text
    rules = page.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert page.headers["x-frame-options"] == "DENY"
    assert http.get("/api/runs/list").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "a b", "[::"])
def test_another_name_is_refused(http: httpx.Client, host: str) -> None:
    answer = http.get("/api/runs/list", headers={"host": host})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:80"])
def test_the_end_of_a_tunnel_is_answered(http: httpx.Client, host: str) -> None:
    assert http.get("/api/runs/list", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_another_site_is_refused_whatever_it_knows(http: httpx.Client, served: Served, headers: dict[str, str]) -> None:
    token = {"x-studio-token": served.studio.page_token}
    assert http.post("/api/runs/stop", json={"run": "first"}, headers=token | headers).status_code == 403
    assert http.get(f"/picture?run=first&path={PICTURE}", headers=headers).status_code == 403


def test_an_action_needs_the_page(http: httpx.Client, served: Served) -> None:
    own = {"origin": served.address}
    for given in ({}, {"x-studio-token": "x"}):
        answer = http.post("/api/runs/stop", json={"run": "first"}, headers=own | given)
        assert answer.status_code == 403
        assert "load it again" in sentence(answer)
    told = http.post(
        "/api/runs/stop", json={"run": "first"}, headers=own | {"x-studio-token": served.studio.page_token}
    )
    assert told.status_code == 409
    assert "nothing to stop" in sentence(told)


def test_a_run_of_several_processes_is_not_resumed_by_one(served: Served) -> None:
    run = small_run(served.root / "several", trained=3)
    started = json.loads((run / "environment.json").read_text())["starts"]
    (run / "environment.json").write_text(json.dumps({"starts": [*started, {"ranks": 8}]}))
    served.studio.places.look_again()
    headers = {"x-studio-token": served.studio.page_token}
    told = httpx.post(f"{served.address}/api/runs/resume", json={"run": "several"}, headers=headers)
    assert told.status_code == 409
    assert "torchrun" in sentence(told)


@pytest.mark.parametrize(
    "path",
    [
        "../second/recipe.yaml",
        "samples/../recipe.yaml",
        "/etc/passwd",
        "",
        "samples//x.png",
        "samples",
        "a\0b",
        "..\\x",
    ],
)
def test_no_path_leaves_a_run(http: httpx.Client, path: str) -> None:
    answer = http.get("/picture", params={"run": "first", "path": path})
    assert answer.status_code in (403, 404)


def test_only_pictures_of_known_runs_are_shown(http: httpx.Client) -> None:
    assert http.get("/picture", params={"run": "first", "path": PICTURE}).headers["content-type"] == "image/png"
    assert http.get("/picture", params={"run": "first", "path": "recipe.yaml"}).status_code == 403
    assert http.get("/picture", params={"run": "../first", "path": PICTURE}).status_code == 404
    assert http.get("/picture", params={"run": "first", "path": PICTURE, "side": "7"}).status_code == 400
    assert http.get("/static/../app.py").status_code in (403, 404)
    assert http.get("/static/%2e%2e/app.py").status_code in (403, 404)


def test_no_link_is_followed(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", trained=0)
    (tmp_path / "outside.png").write_bytes(b"x")
    (run / "samples" / "link.png").symlink_to(tmp_path / "outside.png")
    (run / "away").symlink_to(tmp_path)
    for path in ("samples/link.png", "away/outside.png"):
        with pytest.raises(StudioRefused, match="links"):
            file_inside(run, path)


def test_what_is_no_action(http: httpx.Client, served: Served) -> None:
    headers = {"x-studio-token": served.studio.page_token}
    for body in (b"", b"[]", b"{", b'{"run": 3}', b"\xff", b"[" * 5000):
        answer = http.post("/api/runs/stop", content=body, headers=headers)
        assert answer.status_code == 400, body[:20]
    assert http.post("/api/runs/stop", content=bytes(200_000), headers=headers).status_code == 413
    assert http.get("/api/nothing").status_code == 404
    assert http.get("/api/runs/stop").status_code == 405


def test_a_token_is_asked_of_everyone_where_it_is_set(tmp_path: Path) -> None:
    small_run(tmp_path / "runs" / "one", trained=2)
    with studio_at(tmp_path, tmp_path / "runs", access_token="secret-secret") as (address, _):
        with httpx.Client(base_url=address) as http:
            for path in (
                "/",
                "/api/runs/list",
                "/static/app.js",
                "/?token=wrong",
                "/api/runs/list?token=secret-secret",
            ):
                assert http.get(path).status_code == 401, path
            entered = http.get("/?token=secret-secret")
            assert entered.status_code == 303
            assert "httponly" in entered.headers["set-cookie"].lower()
            assert "samesite=strict" in entered.headers["set-cookie"].lower()
            assert [run["name"] for run in http.get("/api/runs/list").json()["runs"]] == ["one"]
            assert http.get("/api/runs/list", headers={"host": "10.1.2.3:80"}).status_code == 200
            assert http.get("/api/runs/list", headers={"host": "evil.example"}).status_code == 403


def test_streams_end_when_the_studio_does(tmp_path: Path) -> None:
    """uvicorn alone would wait for them without end."""
    small_run(tmp_path / "runs" / "one", trained=2)
    with studio_at(tmp_path, tmp_path / "runs") as (address, studio):
        with httpx.stream("GET", f"{address}/api/events", timeout=30) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry")
            studio.closing = True
            rest = list(lines)
    told = [json.loads(line.removeprefix("data: ")) for line in rest if line.startswith("data: ")]
    assert told[0] == {"viewers": 1}
