"""Figures of a student's answers beside its teacher's: what each sees, what is missing, what is an event, who is
first."""

import numpy as np
import pytest
from PIL import Image

from fewstep.bench.paired.catalogue import BY_NAME, COMPOSITE, closeness, figures_of
from fewstep.bench.paired.composite import composite
from fewstep.bench.paired.picture_pair import AnswerPair, measure_pair, seeds_distance, structure
from fewstep.bench.paired.ranking import rank_students, to_ship
from fewstep.bench.paired.summary import missing_reasons, paired_figures, teacher_band
from fewstep.bench.paired.watch import WINDOW, average_event, critic_event, events_of

RNG = np.random.default_rng(0)
SIDE = 96


def scene(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Blocks of colour with edges: something to find again when it moves."""
    small = np.random.default_rng(seed).integers(30, 220, (side // 12, side // 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def edited(source: np.ndarray) -> np.ndarray:
    """The upper left quarter is made red; the rest stays."""
    found = source.copy()
    found[: SIDE // 2, : SIDE // 2] = (210, 20, 20)
    return found


def test_equal_pictures_are_at_no_distance_and_noise_is_at_some() -> None:
    picture = scene()
    noisy = np.clip(picture + RNG.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    same, other = measure_pair(AnswerPair(picture, picture)), measure_pair(AnswerPair(noisy, picture))
    assert same.values["structure"] == pytest.approx(0, abs=1e-9)
    assert same.values["psnr"] == 60.0
    assert other.values["structure"] > 0.02
    assert 20 < other.values["psnr"] < 30
    assert structure(picture, scene(1)) > structure(noisy, picture)


def test_an_edit_that_moves_recolours_or_does_nothing_is_seen_without_a_mask() -> None:
    source = scene()
    taught, picture = edited(source), Image.fromarray(source)

    def found(answer: np.ndarray) -> dict[str, float]:
        return measure_pair(AnswerPair(answer, taught, picture)).values

    right, moved = found(taught), found(np.roll(taught, 2, axis=1))
    tinted = found(np.clip(taught.astype(int) + np.array([18, 0, -18]), 0, 255).astype(np.uint8))
    assert right["no_op"] == 0
    assert right["shift"] < 0.1
    assert right["drift"] == pytest.approx(0, abs=1e-6)
    assert moved["shift"] == pytest.approx(2, abs=0.3)
    assert tinted["tint"] > 3 > 0.5 > right["tint"]
    assert found(source)["no_op"] == 1


def test_what_a_teacher_did_not_change_asks_for_no_change() -> None:
    source = scene()
    found = measure_pair(AnswerPair(source, source, Image.fromarray(source)))
    assert "no_op" not in found.values


def test_a_figure_that_cannot_be_had_is_missing_with_its_reason() -> None:
    found = measure_pair(AnswerPair(scene(), scene(side=48), text=()))
    assert found.missing["psnr"] == "the answer and the teacher's differ in size"
    assert "psnr" not in found.values
    assert "saturation" in found.values, "other figures are not concerned"
    record = {"case": "a", "task": "t2i", "seed": 0, "values": found.values, "missing": found.missing}
    assert missing_reasons([record], ["t2i.psnr"]) == {"t2i.psnr": found.missing["psnr"]}


def test_a_scorer_that_fails_is_missing_and_said() -> None:
    lost = {"case": "a", "task": "t2i", "seed": 0, "values": {}, "missing": {"score_clip": "out of memory"}}
    there = {"case": "b", "task": "edit", "seed": 0, "values": {"score_clip": 1.0}, "missing": {}}
    assert missing_reasons([lost, there], []) == {"t2i.clip": "out of memory"}
    assert paired_figures([lost, there], [])["edit.clip"] == 1.0


def test_seeds_that_are_alike_have_no_distance() -> None:
    assert seeds_distance([scene(), scene()]) == 0
    assert seeds_distance([scene(), scene(1)]) > 5


# ---- figures of a set


def records(quality: float, spread: float = 1.0, cases: int = 12) -> list[dict[str, object]]:
    """A student as far from its teacher as `quality` says, with seeds `spread` times as far apart."""
    made: list[dict[str, object]] = []
    own = np.random.default_rng(round(100 * quality))
    for n in range(cases):
        quality_here = quality + 0.02 * float(own.normal())
        hard = 0.02 * (n % 4)  # of the case, the same for all students
        t2i = {"structure": 0.1 * quality_here + hard, "saturation": 40 * (1 + 0.1 * quality), "contrast": 15.0}
        t2i |= {"seeds": 10 * spread, "teacher_seeds": 10.0, "psnr": 30 - quality - hard}
        edit = {"structure": 0.05 * quality_here + hard, "no_op": 0.0, "drift": 1 + quality, "tint": 0.4, "shift": 0.1}
        for task, values in (("t2i", t2i), ("edit", edit)):
            made.append({"case": f"{task}-{n}", "task": task, "seed": 0, "values": values, "missing": {}})
    return made


TEACHER = records(0.0)


def test_the_composite_falls_with_every_gap_and_is_best_at_the_teacher() -> None:
    perfect, near, far = (paired_figures(records(q), TEACHER)[COMPOSITE] for q in (0.0, 0.5, 1.0))
    assert perfect > near > far
    assert paired_figures(records(0.5, spread=0.5), TEACHER)[COMPOSITE] < near
    assert composite({}, {}) is None


def test_saturation_is_best_at_the_teachers_own_whatever_best_is_says() -> None:
    assert closeness("t2i.saturation", 41, 40) > closeness("t2i.saturation", 46, 40)
    assert closeness("t2i.saturation", 39, 40) > closeness("t2i.saturation", 30, 40)
    assert closeness("edit.drift", 1, 0) > closeness("edit.drift", 2, 0)
    assert closeness("t2i.clip", 2, None) > closeness("t2i.clip", 1, None)


def test_the_set_decides_which_figures_there_are() -> None:
    assert "t2i.variety" not in {figure.name for figure in figures_of(("t2i",), 1)}
    assert {figure.task for figure in figures_of(("t2i",), 2)} == {"t2i"}
    assert set(BY_NAME) == {figure.name for figure in figures_of(("t2i", "edit"), 2)}


def test_the_teachers_band_holds_its_own_value() -> None:
    band = teacher_band(TEACHER)
    assert band["edit.drift"]["value"] == pytest.approx(1)
    assert "t2i.psnr" not in band, "to itself it says nothing"


# ---- events


def test_a_healthy_student_raises_no_event_and_each_fault_its_own() -> None:
    healthy = paired_figures(records(0.2), TEACHER)
    taught = {name: band["value"] or 0.0 for name, band in teacher_band(TEACHER).items()}
    assert not events_of(healthy, taught)
    faults = {
        "variety": {"t2i.variety": 0.7},
        "saturation": {"t2i.saturation": 46.0},
        "shift": {"edit.shift": 1.3},
        "tint": {"edit.tint": 1.5},
        "no_ops": {"edit.no_op": 0.3},
    }
    for kind, values in faults.items():
        assert [event.kind for event in events_of(healthy | values, taught)] == [kind]
    assert not events_of({}, taught), "a figure that is missing raises none"


def test_a_critic_far_from_the_teachers_is_told_after_a_whole_window() -> None:
    assert critic_event([0.3] * 100) is None
    assert critic_event([1.0] * (WINDOW - 1)) is None
    event = critic_event([0.3] * 100 + [1.0] * WINDOW)
    assert event is not None
    assert event.kind == "critic_lag"
    assert critic_event([1.0] * WINDOW + [0.3] * WINDOW) is None, "what counts is the latest"


def test_a_student_that_is_no_average_is_told() -> None:
    assert average_event(0.98) is None
    assert average_event(0.0) is not None


# ---- ranking


def test_the_better_student_is_first_and_told_apart_although_cases_differ_more() -> None:
    found = rank_students({100: records(0.9), 200: records(0.3), 300: records(0.4)}, TEACHER)
    assert [one.iteration for one in found] == [200, 300, 100]
    assert to_ship(found) == 200
    assert found[0].behind.value == 0
    assert found[2].told_apart
    assert found[2].behind.low is not None
    assert found[2].behind.low > 0


def test_one_figure_ranks_in_its_own_direction() -> None:
    found = rank_students({1: records(0.9), 2: records(0.3)}, TEACHER, by="t2i.psnr")
    assert [one.iteration for one in found] == [2, 1]
    assert rank_students({1: records(0.9)}, TEACHER, by="t2i.text") == []
