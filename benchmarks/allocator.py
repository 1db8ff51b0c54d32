"""What keeping freed memory saves: the same training step in fresh processes with and without, CPU seconds of each.

python benchmarks/allocator.py [--repeats 3]
"""

import argparse
import statistics
import subprocess
import sys

STEP = """
import resource, sys, torch
from fewstep.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
from fewstep.backbones.families import load_backbone
from fewstep.backbones.conditioning import stack
backbone = load_backbone("pocket", dtype=torch.float32)
cond = stack(backbone.encode(["A landscape by day under a sun over grass."], None, (64, 64)) * 64)
net = backbone.transformer.requires_grad_(True)
z, t = torch.randn(64, *backbone.noise_shape(cond.layout)), torch.rand(64)
def step():
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        backbone.velocity(net, z, t, cond).square().mean().backward()
    net.zero_grad()
step(); step()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(10):
    step()
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, after.ru_minflt - before.ru_minflt)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    seconds: dict[str, list[float]] = {"give back": [], "keep": []}
    faults: dict[str, list[int]] = {"give back": [], "keep": []}
    for _ in range(parser.parse_args().repeats):
        for how in seconds:
            done = subprocess.run(
                [sys.executable, "-c", STEP, how.split()[0]], capture_output=True, text=True, check=True
            )
            cpu, minor = done.stdout.split()
            seconds[how].append(float(cpu))
            faults[how].append(int(minor))
    for how in seconds:
        spent = seconds[how]
        print(
            f"{how:9}: {min(spent):.2f} CPU s for 10 steps (median {statistics.median(spent):.2f}), "
            f"{min(faults[how]):,} page faults"
        )
    print(f"keep / give back: {min(seconds['keep']) / min(seconds['give back']):.2f}")


if __name__ == "__main__":
    main()
