"""The server under load, on any student folder: what is lost, what batching gains, what it costs over the bare sampler.

    python benchmarks/serve.py STUDENT [--requests 200] [--clients 200] [--endurance 2000]

Losses and batching are measured on the application in this process (no sockets), so that those figures are of the
server and not of the network. The rest is asked of `fewstep serve` itself, through sockets: memory is that of its
process alone, and the cost over the bare sampler holds everything that a client waits for. Machines that do other work
at the same time give other figures: the load is printed.
"""

import argparse
import asyncio
import io
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from fewstep.sample.pictures import (
    Model,
    generate_pictures,
    load_student,
)
from fewstep.sample.server.app import Server
from fewstep.sample.server.limits import Limits

PROMPT = "A sandy beach in fog with a red boat on the left."
PROMPTS = (
    PROMPT,
    "a beach",
    "A snowy hill at night under many stars, with a wooden house and a blue sign that says OPEN.",
)
SAMPLES = 40  # of memory, over all requests
SETTLED = 0.25  # the part of the requests after which memory must stand still


@asynccontextmanager
async def serving(model: Model, limits: Limits) -> AsyncIterator[httpx.AsyncClient]:
    server = Server(model, "student", limits)
    app = server.app()
    async with server._lifespan(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=3600) as http:
            yield http


async def load(model: Model, limits: Limits, requests: int, clients: int) -> tuple[list[int], float]:
    """(statuses, seconds of all): each client asks again until `requests` are made."""
    left = iter(range(requests))
    statuses: list[int] = []

    async def client(http: httpx.AsyncClient) -> None:
        for seed in left:
            answer = await http.post("/v1/images/generations", json={"prompt": PROMPT, "seed": seed})
            statuses.append(answer.status_code)

    async with serving(model, limits) as http:
        await http.post("/v1/images/generations", json={"prompt": PROMPT, "seed": 0})
        begun = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        return statuses, time.perf_counter() - begun


# ---- the command itself


@dataclass
class Process:
    """`fewstep serve` in a process of its own."""

    address: str
    pid: int

    @property
    def mib(self) -> float:
        """MiB that it holds now (resident)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20


@contextmanager
def command(student: str) -> Iterator[Process]:
    words = [sys.executable, "-m", "fewstep", "serve", student, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}) as started:
        try:
            assert started.stdout is not None
            found = next(m for line in started.stdout if (m := re.search(r"http://[\d.]+:\d+", line)))
            yield Process(found[0], started.pid)
        finally:
            started.send_signal(signal.SIGINT)


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(file, format="PNG")
    return file.getvalue()


async def asked(http: httpx.AsyncClient, i: int, upload: bytes) -> bool:
    """Request i of a mixture: generations of unequal prompts, an edit in four, a refused one in ten. Whether it was
    answered as it should be."""
    if i % 10 == 9:
        answer = await http.post("/v1/images/generations", json={"prompt": PROMPT, "seed": -1})
        return answer.status_code == 400
    if i % 4 == 3:
        form = {"prompt": "make it night", "seed": str(i)}
        answer = await http.post("/v1/images/edits", data=form, files={"image": ("x.png", upload)})
    else:
        body = {"prompt": PROMPTS[i % len(PROMPTS)], "seed": i, "n": 1 + i % 2}
        answer = await http.post("/v1/images/generations", json=body)
    return answer.status_code == 200


async def worn(process: Process, requests: int, clients: int) -> tuple[int, list[tuple[int, float]]]:
    """(answered as they should be, MiB by requests answered)."""
    upload, left = picture(), iter(range(requests))
    right, held = 0, []

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal right
        for i in left:
            answered = await asked(http, i, upload)
            right += answered
            if i % max(1, requests // SAMPLES) == 0:
                held.append((i, process.mib))

    async with httpx.AsyncClient(base_url=process.address, timeout=3600) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    held.append((requests, process.mib))
    return right, sorted(held)


def endurance(process: Process, requests: int) -> None:
    begun = time.perf_counter()
    right, held = asyncio.run(worn(process, requests, 8))
    took = time.perf_counter() - begun
    at, mib = (np.array(each, float) for each in zip(*held, strict=True))
    settled = at >= SETTLED * requests
    slope, _ = np.polyfit(at[settled], mib[settled], 1)
    print(f"endurance: {right} of {requests} answered as they should be, {took:.0f} s")
    print("memory, MiB: " + ", ".join(f"{m:.0f} after {n:.0f}" for n, m in held[:: max(1, len(held) // 10)]))
    half = [mib[settled & (at < 0.625 * requests)], mib[at >= 0.625 * requests]]
    low, high = (float(np.median(part)) for part in half)
    print(
        f"memory after the first quarter: slope {1000 * slope:+.2f} MiB per 1,000 requests, median of its first and "
        f"second half {low:.1f} and {high:.1f} MiB, highest of all {mib.max():.1f} MiB"
    )


def over_the_sampler(process: Process, model: Model, count: int) -> None:
    """One request and one picture of the bare sampler in turn: the load of a machine drifts."""
    alone, served = [], []
    with httpx.Client(base_url=process.address, timeout=3600) as http:
        for seed in range(-3, count):  # three to warm up
            begun = time.perf_counter()
            http.post("/v1/images/generations", json={"prompt": PROMPT, "seed": seed + 3}).raise_for_status()
            between = time.perf_counter()
            generate_pictures(model, [PROMPT], seed=seed + 3)
            if seed >= 0:
                served.append(between - begun)
                alone.append(time.perf_counter() - between)
    p50, bare = statistics.median(served), statistics.median(alone)
    print(
        f"batch 1, one client: p50 {1000 * p50:.0f} ms, bare sampler {1000 * bare:.0f} ms: {p50 / bare:.2f} x "
        f"(least {1000 * min(served):.0f} and {1000 * min(alone):.0f} ms: {min(served) / min(alone):.2f} x; "
        f"{count} of each, in turn)"
    )


def main() -> None:
    asking = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asking.add_argument("student")
    asking.add_argument("--requests", type=int, default=200)
    asking.add_argument("--clients", type=int, default=200)
    asking.add_argument("--endurance", type=int, default=2000)
    options = asking.parse_args()
    model = load_student(options.student)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")

    statuses, total = asyncio.run(load(model, Limits(queue=options.clients), options.requests, options.clients))
    print(f"{options.clients} clients: {statuses.count(200)} of {options.requests} answered, {total:.1f} s")

    rates: dict[int, list[float]] = {}
    for batch in (1, 8, 1, 8):  # in turn: the load of a machine drifts
        statuses, total = asyncio.run(load(model, Limits(queue=64, batch=batch), options.requests // 4, 8))
        rates.setdefault(batch, []).append(len(statuses) / total)
    one, eight = (statistics.mean(rates[batch]) for batch in (1, 8))
    print(f"8 clients: {one:.1f} pictures/s drawn singly, {eight:.1f} in batches of up to 8: {eight / one:.2f} x")

    with command(options.student) as process:
        over_the_sampler(process, model, 40)
        endurance(process, options.endurance)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
