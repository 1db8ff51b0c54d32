"""Every cell of the paper's Tables 1 to 4 (arXiv 2606.03746 v2): cells and averages of judges A and B, and the rank.
Categories: landscape, portrait, text; for editing: scene, perceptual, object, text, identity, style."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    system: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    averages: tuple[float, float]  # as printed
    rank: int


COMPOSITION = (
    Line("E1 landscape", (3.53, 3.37, 3.01), (4.30, 4.31, 3.77), (3.30, 4.13), 3),
    Line("E2 portrait", (3.56, 3.57, 3.12), (4.35, 4.34, 3.76), (3.42, 4.15), 1),
    Line("E3 text", (2.55, 3.38, 1.97), (3.34, 3.88, 2.64), (2.63, 3.29), 5),
    Line("E4 landscape + portrait", (3.61, 3.54, 3.04), (4.24, 4.33, 3.62), (3.40, 4.06), 2),
    Line("E5 all", (3.53, 3.47, 2.05), (4.08, 4.23, 2.54), (3.02, 3.62), 4),
)
GUIDANCE = (
    Line("base teacher", (3.52, 3.64, 3.08), (4.24, 4.30, 3.73), (3.41, 4.09), 3),
    Line("specialised teacher", (3.98, 3.82, 3.41), (4.34, 4.47, 3.88), (3.74, 4.26), 1),
    Line("Flash-T2I", (3.88, 3.81, 3.00), (4.30, 4.41, 3.75), (3.56, 4.15), 2),
)
EDITING = (
    Line("teacher", (2.52, 2.75, 2.33, 3.25, 3.16, 2.62), (3.61, 3.22, 3.05, 3.69, 3.53, 3.56), (2.77, 3.44), 3),
    Line("zero-shot", (2.78, 2.81, 2.25, 2.84, 3.16, 2.78), (3.57, 3.03, 3.01, 3.11, 3.41, 3.52), (2.77, 3.28), 4),
    Line("9:1", (2.43, 2.25, 2.09, 2.83, 3.12, 2.75), (3.48, 3.21, 2.87, 3.25, 3.53, 3.50), (2.58, 3.31), 5),
    Line("7:3", (2.49, 2.80, 2.34, 3.35, 3.18, 3.05), (3.46, 2.87, 3.08, 3.58, 3.52, 3.63), (2.87, 3.36), 2),
    Line("5:5", (2.86, 2.25, 2.68, 3.18, 3.19, 3.68), (3.66, 3.06, 3.20, 3.13, 3.47, 3.92), (2.97, 3.41), 1),
)
T2I_OF_MIXTURES = (
    Line("specialised teacher", (3.98, 3.82, 3.41), (4.34, 4.47, 3.88), (3.74, 4.26), 1),
    Line("zero-shot", (3.88, 3.81, 3.00), (4.30, 4.41, 3.75), (3.56, 4.15), 5),
    Line("9:1", (4.04, 3.58, 3.17), (4.39, 4.37, 3.77), (3.60, 4.18), 4),
    Line("7:3", (3.81, 3.77, 3.21), (4.35, 4.40, 3.84), (3.60, 4.20), 3),
    Line("5:5", (3.95, 3.85, 3.14), (4.34, 4.37, 3.76), (3.65, 4.16), 2),
)
TABLES = {"1": COMPOSITION, "2": GUIDANCE, "3": EDITING, "4": T2I_OF_MIXTURES}
T2I_COLUMNS = ("landscape", "portrait", "text")
EDIT_COLUMNS = ("scene", "perceptual", "object", "text", "identity", "style")

# Its cells give 4.23; the same line stands in Tables 2 and 4.
MISPRINTS = {("specialised teacher", "B"): (4.26, 4.23)}
