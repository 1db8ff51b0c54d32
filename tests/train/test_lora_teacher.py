"""A student that begins as a LoRA keeps the LoRA's law where the LoRA teaches every step, and leaves it where the base
teaches the first ones. benchmarks/lora_teacher.py runs it longer."""

from benchmarks.lora_teacher import ARMS, World, base_mixture, energy_distance, lora_mixture

ITERATIONS = 40


def test_the_lora_anchors_every_step_of_a_student_that_begins_as_it() -> None:
    ends = {}
    for arm in ARMS[:2]:
        start, end = World(arm, 0, ITERATIONS).run(ITERATIONS, ITERATIONS)
        ends[arm.name] = end / start
    assert ends["LoRA, all steps"] < 1.05
    assert ends["LoRA, step-wise"] > 1.1


def test_the_distance_is_that_of_the_laws() -> None:
    lora, base = lora_mixture(), base_mixture()
    assert energy_distance(lora.law(1000, "a"), lora.law(1000, "b")) < 0.1
    assert energy_distance(lora.law(1000, "a"), base.law(1000, "b")) > 0.5
