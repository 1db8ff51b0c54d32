#!/bin/sh
# rapidocr reads lettering that is upside down or sideways as if it stood upright, and its answer does not say so.
#
# Versions: rapidocr 3.10.0, onnxruntime 1.32.0, pillow 13.0.0 (Python 3.11).
# Behaviour: each line is turned by its classifier of orientation (use_cls, on by default) or, where its box is at least
#   1.5 times as high as wide, by a quarter, before it is read. The answer has boxes, words and scores, and no angle. With
#   use_cls=False, upside-down lines are read as they stand, half right and less sure; lines that run downwards are still
#   read in full, because the turn by a quarter is part of cutting them out.
# Expected from memory: an OCR engine reads a page as it stands, or reports the orientation it found.
# Output seen: 'Fresh bread' upright (1.00), upside down (0.99) and running downwards (1.00), no field on orientation;
#   with use_cls=False 'Fres bead' (0.79) upside down, and 'Fresh bread' (1.00) running downwards.
# Source: rapidocr/main.py (cls_and_rotate, RapidOCROutput) and rapidocr/utils/process_img.py (get_rotate_crop_image).
# Exits 1 if the behaviour changes. Its models are in the package: after installing, no network is needed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rapidocr==3.10.0 onnxruntime==1.32.0 pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR

print(*(f"{name} {version(name)}" for name in ("rapidocr", "onnxruntime", "pillow")))
sign = Image.new("RGB", (448, 130), "white")
ImageDraw.Draw(sign).text((30, 40), "Fresh bread", fill="black", font=ImageFont.load_default(40))
ways = {"upright": sign, "upside down": sign.rotate(180), "downwards": sign.rotate(-90, expand=True)}
reader = RapidOCR(params={"Global.log_level": "critical"})
read = {}
for use_cls in (True, False):
    for way, picture in ways.items():
        found = reader(np.asarray(picture)[:, :, ::-1], use_det=True, use_cls=use_cls, use_rec=True)
        read[way, use_cls] = " ".join(found.txts or ())
        told = [name for name in vars(found) if "angle" in name or "cls" in name or "orient" in name]
        print(f"use_cls={use_cls}, {way}: {read[way, use_cls]!r} {found.scores}, fields on orientation: {told}")
as_seen = all(read[way, True] == "Fresh bread" for way in ways) and read["downwards", False] == "Fresh bread"
as_seen = as_seen and read["upside down", False] != "Fresh bread"
print("as described" if as_seen else "the behaviour has changed")
sys.exit(0 if as_seen else 1)
PY
