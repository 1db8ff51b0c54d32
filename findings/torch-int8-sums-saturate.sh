#!/usr/bin/env bash
# What torch's product of int8 matrices gives on x86 CPUs without VNNI instructions.
#
# torch 2.13.0 (CPU), torch._int_mm: int8 (M, K) times int8 (K, N) to int32. K is 64, all numbers are 127, so each sum
# is 64 * 127 * 127 = 1,032,256. oneDNN can be told to do without VNNI (ONEDNN_MAX_CPU_ISA), which is how a CPU without
# it is seen on one that has it.
# Seen: as it is 1032256; AVX512_CORE and AVX2 8160. Of uniform integers in -127 .. 127 two thirds of the sums are wrong
# there, by up to 40,522. The dtype is int32 throughout, and nothing is said.
# Why: without VNNI one instruction multiplies unsigned by signed bytes and adds pairs of products in 16 bits, where they
# stop at 32,767. oneDNN's guide to int8 says so; nothing of torch does.
# ATEN_CPU_CAPABILITY, torch's own switch, changes nothing here: the product is oneDNN's.
# It matters to whoever checks W8A8 layers on a CPU: they are right on one machine and wrong on the next.
# Source: oneDNN's developer guide, "Nuances of int8 computations"; aten/src/ATen/native/mkldnn/Matmul.cpp.
set -euo pipefail
grep -q avx2 /proc/cpuinfo || { echo "needs an x86 CPU with AVX2"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.0
cat > "$work/sums.py" <<'PY'
import torch

most = torch.full((32, 64), 127, dtype=torch.int8)
sums = torch._int_mm(most, most.t().contiguous())
draw = torch.Generator().manual_seed(0)
a, b = (torch.randint(-127, 128, shape, generator=draw, dtype=torch.int8) for shape in ((32, 64), (64, 48)))
wrong = torch._int_mm(a, b).double() != a.double() @ b.double()
print(sums.dtype, sums[0, 0].item(), f"{wrong.double().mean():.2f}")
PY
seen() { ONEDNN_MAX_CPU_ISA=$1 "$work/venv/bin/python" "$work/sums.py"; }
echo "as it is:     $(seen DEFAULT)"
for without in AVX512_CORE AVX2; do
    told=$(seen "$without")
    echo "$without: $told"
    [[ $told == "torch.int32 8160 "* ]]
done
