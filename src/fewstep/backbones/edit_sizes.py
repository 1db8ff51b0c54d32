"""The size of an edit without one of its own, by the sizes of its references, as each family's stock pipeline has it.

Without torch, so that planning, training and sampling ask the same functions. Sizes are (height, width) in px. `area`
is that of the model's default size, in px; not every family uses it. The rules are those of diffusers 0.42.1.
"""

import math
from collections.abc import Sequence

Size = tuple[int, int]

STEP = 32  # px; of the sides that Qwen's pipelines give a picture (`calculate_dimensions`)
SETTLED = 8  # rounds; two do for every shape that was tried
KLEIN_AREA, KLEIN_STEP = 1024 * 1024, 16  # FLUX.2 klein: the most px of a reference, and the step of its sides
FLUX3_AREA, FLUX3_STEP = 4 * 1024 * 1024, 16  # FLUX 3: the most px of a reference that stands alone
FLUX3_SIDES = (64, 4096)  # FLUX 3: the least and the most px of a side of it
LONGCAT_AREA, LONGCAT_STEP = 1024 * 1024, 16  # LongCat-Image: px of every edit, and the step of its sides
KLEIN_LEAST, KLEIN_ASPECT = 64, 8  # px of its shorter side, and how many times as long the other one may be


def at_area(picture: Size, area: int) -> Size:
    """The shape of a picture at this area, in steps of 32 px (`calculate_dimensions` of both Qwen pipelines)."""
    ratio = picture[1] / picture[0]
    width = math.sqrt(area * ratio)
    return round(width / ratio / STEP) * STEP, round(width / STEP) * STEP


def reference_resolution(size: Size) -> int:
    """The value of Qwen-Image 2.1's `output_resolution` that resizes references to the target's area.

    A reference of the target's shape then gets exactly the target's size. With any other value the two grids differ,
    and edits are shifted. Pass the same value to a stock pipeline when sampling at sizes that are not square.
    """
    return round(math.sqrt(size[0] * size[1]))


def on_own_grid(picture: Size, area: int) -> Size:
    """A target size at which Qwen-Image 2.1 gives the picture, as a reference, exactly the target's size.

    The reference is resized to the target's area. But the target's sides were rounded to 32 px, which changes that
    area, so the reference may be rounded to other sides. Repeating this settles after two rounds.
    """
    size = at_area(picture, area)
    for _ in range(SETTLED):
        of_reference = at_area(picture, reference_resolution(size) ** 2)
        if of_reference == size or 0 in of_reference:
            break
        size = of_reference
    return size


def klein_size(picture: Size) -> Size:
    """What FLUX.2 klein uses of a picture: its own size, reduced to a megapixel at most, in whole tokens."""
    height, width = picture
    if height * width > KLEIN_AREA:
        scale = math.sqrt(KLEIN_AREA / (width * height))
        height, width = int(height * scale), int(width * scale)
    return height // KLEIN_STEP * KLEIN_STEP, width // KLEIN_STEP * KLEIN_STEP


def flux3_size(references: Sequence[Size]) -> Size:
    """The size of an edit of FLUX 3: what the pipeline uses of the first reference. One that stands alone is kept
    whole, up to 4 megapixels, with its sides rounded up to whole tokens; of several each is cropped, as klein's."""
    return klein_size(references[0]) if len(references) > 1 else _flux3_canvas(references[0])


def flux3_grid(picture: Size, references: int) -> Size:
    """The size in px at which FLUX 3 encodes one of so many references."""
    return klein_size(picture) if references > 1 else _flux3_canvas(picture)


def _flux3_canvas(picture: Size) -> Size:
    """`Flux3ImageProcessor._resize_if_canvas_exceeds_area`, then its canvas."""
    least, most = FLUX3_SIDES
    scale = min(1.0, math.sqrt(FLUX3_AREA / (picture[0] * picture[1])), most / max(picture))
    while True:
        height, width = (max(1, round(side * scale)) for side in picture)
        canvas = tuple(min(most, max(least, -(-side // FLUX3_STEP) * FLUX3_STEP)) for side in (height, width))
        if canvas[0] * canvas[1] <= FLUX3_AREA:
            return canvas[0], canvas[1]
        scale *= 0.995


def longcat_size(picture: Size) -> Size:
    """The size of every edit of LongCat-Image: the picture's shape at a megapixel, sides rounded up to whole tokens
    (`calculate_dimensions` of its edit pipeline)."""
    ratio = picture[1] / picture[0]
    width = math.sqrt(LONGCAT_AREA * ratio)
    height = width / ratio
    return math.ceil(height / LONGCAT_STEP) * LONGCAT_STEP, math.ceil(width / LONGCAT_STEP) * LONGCAT_STEP


def klein_fault(picture: Size) -> str | None:
    """What FLUX.2 klein's pipeline refuses of a reference (`Flux2ImageProcessor.check_image_input`)."""
    if min(picture) < KLEIN_LEAST:
        return f"flux2-klein takes references of {KLEIN_LEAST} px a side at least; give a larger picture"
    if max(picture) > KLEIN_ASPECT * min(picture):
        return f"flux2-klein takes references whose sides differ {KLEIN_ASPECT}-fold at most; crop or pad it"
    return None
