"""At which shapes photos are trained as edits, and at which their students draw them: of simulated photos, before and
after `data.sizes.edit: reference`. Nothing is loaded.

    python benchmarks/edit_shapes.py --photos 600

The photos are drawn from usual sensors and screens, with a part that was cropped by hand. For each family it prints:
how many are trained at the shape that `fewstep sample` gives them, at the square of the recipe (before) and at the
family's own rule (after); how many get exactly what the stock call draws without any size; how many layouts there are;
and, in batches of --batch, how many cases share batches with other shapes, how many parts a batch is run in, the
longest time that a case waits in epochs, and how often a case is twice in a batch, against batches of one layout each
(before).
"""

import argparse
import math
import random
from collections import Counter

from fewstep.backbones.edit_sizes import Size, at_area
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import Ratio, index_at, position_at
from fewstep.data.order import BatchOrder
from fewstep.data.phases import constant
from fewstep.data.streams import by_source, split_by_group

SQUARE, AREA = (1024, 1024), 1024 * 1024
SENSORS: dict[str, tuple[int, list[Size]]] = {  # share of the photos; heights and widths in px
    "4:3": (25, [(3000, 4000), (3024, 4032), (3456, 4608), (2448, 3264), (3888, 5184)]),
    "3:2": (25, [(4000, 6000), (3648, 5472), (2832, 4240), (4480, 6720), (2000, 3008)]),
    "16:9": (12, [(1080, 1920), (2160, 3840), (2250, 4000)]),
    "1:1": (8, [(1080, 1080), (3024, 3024)]),
    "phone screens": (10, [(1170, 2532), (1080, 2400), (1284, 2778)]),
    "cropped": (20, []),
}
UPRIGHT = 0.4  # of all photos
EPOCHS = 4


def photo(chance: random.Random) -> Size:
    """(height, width) of one photo."""
    kind = chance.choices(list(SENSORS), [share for share, _ in SENSORS.values()])[0]
    if kind == "cropped":
        width = chance.randrange(700, 6000)
        height = round(width * math.exp(chance.uniform(-0.7, 0.7)))
    else:
        height, width = chance.choice(SENSORS[kind][1])
    return (width, height) if chance.random() < UPRIGHT else (height, width)


def stock_size(family: type[PipelineBackbone], reference: Size) -> Size:
    """What the stock call draws when it is told neither height, width nor `output_resolution`."""
    return family.size_of_edit([reference], AREA) if family is Flux2Klein else at_area(reference, AREA)


def one_layout_batches(cases: list[Case], batch: int, batches: int) -> tuple[int, int]:
    """As before, every batch of one layout: how many hold a case twice, and the longest wait in batches."""
    groups = list(split_by_group(by_source("t2i", [cases], [1]), _kind).values())
    weights = [sum(stream.weight for stream in group) for group in groups]
    twice, last, longest = 0, dict.fromkeys((case.id for case in cases), -1), 0
    for i in range(batches):
        number, rank = position_at(i, weights)
        (stream,) = groups[number]
        size = len(stream.cases)
        held = [stream.cases[index_at(rank * batch + n, size, stream.name, 0)].id for n in range(batch)]
        twice += len({*held}) < batch
        for name in held:
            longest, last[name] = max(longest, i - last[name]), i
    return twice, max(longest, *(batches - at for at in last.values()))


def _kind(case: Case) -> Size:
    return case.size(SQUARE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    photos = [photo(chance) for _ in range(given.photos)]
    for family in (QwenImage21, QwenImage, Flux2Klein):
        sizes = [family.size_of_edit([reference], AREA) for reference in photos]
        stock = sum(size == stock_size(family, photo) for size, photo in zip(sizes, photos, strict=True))
        print(f"{family.family}: {given.photos} photos")
        print(f"  trained at the shape they are sampled at: before {sizes.count(SQUARE)}, after {len(sizes)}")
        print(f"  of these, at exactly the stock call's size: {stock}")
        counts = Counter(sizes)
        rare = sum(count == 1 for count in counts.values())
        print(f"  layouts: {len(counts)}, of which {rare} have one photo")
        told(sizes, given.batch)


def told(sizes: list[Size], batch: int) -> None:
    """Prints how batches of these photos are made up."""
    cases = [Case(f"c{n}", "t2i", "x", height=h, width=w) for n, (h, w) in enumerate(sizes)]
    made = Composition(constant(Ratio(1, 0)), {"t2i": constant(tuple(by_source("t2i", [cases], [1])))})
    order: BatchOrder[Size] = BatchOrder(made, _kind, batch, 0)
    batches = EPOCHS * len(cases) // batch
    sharing = sum(_kind(case) in order.sharing["t2i"] for case in cases)
    parts, twice, last, longest = 0, 0, dict.fromkeys((case.id for case in cases), -1), 0
    for i in range(batches):
        held = order.cases(i)[1]
        parts += len({_kind(case) for case in held})
        twice += len({case.id for case in held}) < batch
        for case in held:
            longest, last[case.id] = max(longest, i - last[case.id]), i
    longest = max(longest, *(batches - at for at in last.values()))
    epoch = len(cases) / batch
    old_twice, old_longest = one_layout_batches(cases, batch, batches)
    print(f"  batches of {batch}: {sharing} cases share theirs with other shapes; {parts / batches:.2f} parts a batch")
    print(f"  longest wait: {longest / epoch:.2f} epochs (before {old_longest / epoch:.2f})")
    print(f"  batches with a case twice: {twice} of {batches} (before {old_twice})")


if __name__ == "__main__":
    main()
