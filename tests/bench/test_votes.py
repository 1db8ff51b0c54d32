"""Blind votes: drawn sides, a fixed order, nothing lost, and a result that says no more than the votes do."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from fewstep.bench.pair_verdict import PairVerdict, read_pairs
from fewstep.bench.suite import Suite
from fewstep.bench.vote_result import chance_of_better, points_of, vote_result
from fewstep.bench.votes import Ballot, open_ballot
from fewstep.runtime.errors import GalleryError, JudgeError
from tests.bench.plain_galleries import CASES, drawn, judged, picture, suite  # noqa: F401 - a fixture
from tests.cli.command_line import fewstep


@pytest.fixture
def galleries(suite: Suite, tmp_path: Path) -> tuple[Path, Path]:  # noqa: F811
    return drawn(suite, tmp_path / "mine", picture), drawn(suite, tmp_path / "other", lambda i, k: picture(i + 1, k))


def favouring(ballot: Ballot, system: str, count: int | None = None) -> None:
    """Votes as one who knows whose pictures these are."""
    for pair in ballot.pairs[:count]:
        ballot.vote(pair, "left" if pair.left == system else "right")


def test_sides_and_order_are_drawn_and_stay(galleries: tuple[Path, Path]) -> None:
    ballot, again, reversed_, other = (
        open_ballot(*galleries, "ann"),
        open_ballot(*galleries, "ann"),
        open_ballot(*galleries[::-1], "ann"),
        open_ballot(*galleries, "ben"),
    )
    told = [(pair.key, pair.left) for pair in ballot.pairs]
    assert told == [(pair.key, pair.left) for pair in again.pairs] == [(p.key, p.left) for p in reversed_.pairs]
    assert [key for key, _ in told] == [pair.key for pair in other.pairs], "voters meet on the same pairs"
    assert told != [(pair.key, pair.left) for pair in other.pairs], "each has sides of their own"
    assert len({key for key, _ in told}) == 2 * CASES
    assert 4 <= sum(left == "mine" for _, left in told) <= 20, "either stands on the left, by lot"
    first = [pair.question.case for pair in ballot.pairs[:CASES]]
    assert len({case.id for case in first}) == CASES, "each case comes once before any comes again"
    assert [case.category for case in first[:6]] == ["sky", "wall"] * 3, "categories take turns"
    assert [case.id for case in first] != sorted(case.id for case in first)


def test_votes_are_records_of_a_judge(galleries: tuple[Path, Path], suite: Suite) -> None:  # noqa: F811
    ballot = open_ballot(*galleries, "ann")
    ballot.vote(ballot.pairs[0], "left", 2.5)
    file = galleries[0] / "pairs" / "other" / "human:ann.jsonl"
    (held,) = read_pairs(file)
    pair = ballot.pairs[0]
    assert (held.judge, held.protocol, held.status, held.won) == ("human:ann", "vote-v1", "ok", "first")
    assert (held.first, held.second, held.case, held.seed) == (pair.left, pair.right, *pair.key)
    assert held.seconds == 2.5
    with pytest.raises(JudgeError, match="has voted on this pair already"):
        open_ballot(*galleries, "ann").vote(pair, "right")
    favouring_rest = open_ballot(*galleries, "ann")
    for rest in favouring_rest.pairs[1:]:
        favouring_rest.vote(rest, "tie")
    for folder in galleries:
        judged(suite, folder, lambda i: 2.0 + i / 6)
    result = fewstep("bench", "report", *galleries, "--to", galleries[0].parent / "report", "--no-pictures")
    assert result.exit_code == 0, result.output
    page = (galleries[0].parent / "report" / "index.html").read_text()
    assert "pairs judged by human:ann" in page
    assert "A person saw each pair once, sides drawn by lot." in page
    assert "24 answers" in page


def test_going_on_undoing_and_a_torn_line(galleries: tuple[Path, Path]) -> None:
    ballot = open_ballot(*galleries, "ann")
    favouring(ballot, "mine", 3)
    with ballot.file.open("ab") as file:  # a power cut
        file.write(b'{"case": "c1", "se')
    again = open_ballot(*galleries, "ann")
    votes = again.votes()
    assert [(vote.case, vote.seed) for vote in votes] == [pair.key for pair in ballot.pairs[:3]]
    assert again.next_pair(votes) == again.pairs[3]
    assert again.take_back() == again.pairs[2]
    assert again.next_pair(again.votes()) == again.pairs[2]
    again.vote(again.pairs[2], "tie")
    assert [vote.won for vote in again.votes()][2] == "tie"
    assert len(ballot.file.read_text().splitlines()) == 3


def test_what_is_no_vote_is_told_and_kept(galleries: tuple[Path, Path]) -> None:
    ballot = open_ballot(*galleries, "ann")
    favouring(ballot, "mine", 1)
    held = ballot.file.read_text()
    ballot.file.write_text(held + json.dumps({"case": "c1"}) + "\n")
    with pytest.raises(JudgeError, match=r"human:ann.jsonl:2: the line is no verdict .* remove it alone"):
        ballot.votes()
    assert ballot.file.read_text().startswith(held)


@pytest.mark.parametrize("name", ["", "../x", "a b", "ann/..", ".ann", "x" * 41, "Änn"])
def test_names_that_are_refused(galleries: tuple[Path, Path], name: str) -> None:
    with pytest.raises(JudgeError, match="a voter's name"):
        open_ballot(*galleries, name)


def test_galleries_that_cannot_be_compared(galleries: tuple[Path, Path], suite: Suite, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(GalleryError, match="both galleries are called"):
        open_ballot(galleries[0], galleries[0], "ann")
    half = drawn(suite, tmp_path / "half", picture, skip=set(range(CASES)))
    with pytest.raises(GalleryError, match="no case and seed in common"):
        open_ballot(galleries[0], half, "ann")


def test_the_result_of_one_who_prefers_a_system(galleries: tuple[Path, Path], suite: Suite) -> None:  # noqa: F811
    ballot = open_ballot(*galleries, "ann")
    favouring(ballot, "mine")
    favouring(open_ballot(*galleries, "ben"), "other")
    judged(suite, galleries[0], lambda i: 4.0)
    judged(suite, galleries[1], lambda i: 3.0)
    found = vote_result(ballot, ballot.votes())
    assert (found.systems, found.wins, found.ties, found.losses) == (("mine", "other"), 24, 0, 0)
    assert found.share.value == 1.0
    assert found.share.low is not None
    assert found.lead.outcome == "better"
    assert found.better == pytest.approx(1 - 0.5 ** (CASES + 1)), "12 cases, whatever their seeds"
    assert {(one.judge, one.kind): one.same.value for one in found.others} == {
        ("human:ben", "pairs"): 0.0,
        ("probe", "scores"): 1.0,
    }
    assert found.as_dict()["lead"]["outcome"] == "better"


def test_a_few_votes_say_little(galleries: tuple[Path, Path]) -> None:
    ballot = open_ballot(*galleries, "ann")
    empty = vote_result(ballot, [])
    assert (empty.better, empty.still, empty.share.value) == (None, None, None)
    json.dumps(empty.as_dict(), allow_nan=False)
    favouring(ballot, "mine", 3)
    found = vote_result(ballot, ballot.votes())
    assert found.better == pytest.approx(1 - 0.5**4)
    assert found.lead.outcome == "not"
    assert found.as_dict()["unspoken"] is True


def test_how_many_votes_are_still_needed(galleries: tuple[Path, Path]) -> None:
    ballot = open_ballot(*galleries, "ann")
    for i, pair in enumerate(ballot.pairs[:CASES]):
        mine = "left" if pair.left == "mine" else "right"
        theirs = "right" if mine == "left" else "left"
        ballot.vote(pair, ("tie", mine, mine, theirs)[i // 2 % 4])  # type: ignore[arg-type]
    found = vote_result(ballot, ballot.votes())
    assert (found.wins, found.ties, found.losses) == (6, 4, 2)
    assert found.still is not None
    assert 10 < found.still < 100
    assert 0.5 < found.better < 1  # type: ignore[operator]


def test_chances_from_a_uniform_prior() -> None:
    assert chance_of_better({}) is None
    assert chance_of_better({("a", 0): 0.5}) is None
    assert chance_of_better({("a", 0): 1.0}) == pytest.approx(0.75)
    assert chance_of_better({("a", 0): 1.0, ("b", 0): 0.0}) == pytest.approx(0.5)
    assert chance_of_better({("a", 0): 1.0, ("a", 1): 0.0, ("b", 0): 0.0}) == pytest.approx(0.25), "seeds are one vote"


def test_points_are_the_mean_of_both_orders() -> None:
    about = {"key": "k", "case": "c", "seed": 0, "task": "t2i", "category": "x", "judge": "j", "model": None}
    one = PairVerdict(**about, protocol="pair-v1", first="a", second="b", status="ok", won="first")
    other = PairVerdict(**{**asdict(one), "first": "b", "second": "a"})
    assert points_of([one], "a") == {("c", 0): 1.0}
    assert points_of([one, other], "a") == {("c", 0): 0.5}
    assert points_of([PairVerdict(**{**asdict(one), "won": None, "status": "refused"})], "a") == {}
