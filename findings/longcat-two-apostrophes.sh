#!/usr/bin/env bash
# What LongCat-Image's pipelines make of a prompt with two different words that have a plain apostrophe inside.
#
# diffusers 0.42.1, transformers 5.23.0, torch 2.13.0, on a CPU. The prompt: it's a dog that doesn't bark
#   read as, by PYTHONHASHSEED (0 to 7): "it's a dog that it'sit's bark" or "doesn'tdoesn't a dog that doesn't bark"
#   the same with typographic apostrophes: unchanged
#   the same word twice (it's late, it's dark): unchanged
# Seen: two readings, neither of them the prompt
# Why: words with an apostrophe are protected by placeholders while quotations are looked for; the second placeholder is
# the first one twice, and placeholders are put back one after another. The words come from a set, so their order, and
# with it the text that is encoded, differs from process to process. Two ranks of one run encode different prompts.
# Source: diffusers/pipelines/longcat_image/pipeline_longcat_image.py (split_quotation), and the edit pipeline's copy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0
cd "$work"
cat > read.py <<'PY'
import warnings

warnings.filterwarnings("ignore")
from diffusers.pipelines.longcat_image.pipeline_longcat_image import split_quotation

PLAIN = "it's a dog that doesn't bark"
for prompt in (PLAIN, PLAIN.replace("'", "\u2019"), "it's late, it's dark"):
    print("".join(part for part, _ in split_quotation(prompt)))
PY
for seed in 0 1 2 3 4 5 6 7; do
    PYTHONHASHSEED=$seed "$work/venv/bin/python" read.py > "$seed.txt"
done
sort -u <(head -qn1 [0-7].txt)
[ "$(sort -u <(head -qn1 [0-7].txt) | wc -l)" = 2 ]
! grep -qx "it's a dog that doesn't bark" <(head -qn1 [0-7].txt)
[ "$(tail -qn1 [0-7].txt | sort -u)" = "it's late, it's dark" ]
[ "$(sed -sn 2p [0-7].txt | sort -u)" = "it’s a dog that doesn’t bark" ]
