"""The server under load, on any student folder: what is lost, what batching gains, what it costs over the bare sampler.

    python benchmarks/serve.py STUDENT [--requests 200] [--clients 200] [--endurance 2000]

Clients talk to the application in this process (no sockets), so that figures are of the server and not of the network.
Machines that do other work at the same time give other figures: the load is printed.
"""

import argparse
import asyncio
import gc
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from fewstep.sample.pictures import Model, load_student, pictures
from fewstep.serve.app import Server
from fewstep.serve.limits import Limits

PROMPT = "A sandy beach in fog with a red boat on the left."


@asynccontextmanager
async def serving(model: Model, limits: Limits) -> AsyncIterator[httpx.AsyncClient]:
    server = Server(model, "student", limits)
    app = server.app()
    async with server._lifespan(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=3600) as http:
            yield http


async def load(model: Model, limits: Limits, requests: int, clients: int) -> tuple[list[int], list[float], float]:
    """(statuses, seconds of each request, seconds of all): each client asks again until `requests` are made."""
    left = iter(range(requests))
    statuses: list[int] = []
    seconds: list[float] = []

    async def client(http: httpx.AsyncClient) -> None:
        for seed in left:
            begun = time.perf_counter()
            answer = await http.post("/v1/images/generations", json={"prompt": PROMPT, "seed": seed})
            statuses.append(answer.status_code)
            seconds.append(time.perf_counter() - begun)

    async with serving(model, limits) as http:
        await http.post("/v1/images/generations", json={"prompt": PROMPT, "seed": 0})
        begun = time.perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        return statuses, seconds, time.perf_counter() - begun


def bare(model: Model, count: int) -> float:
    """Median seconds of the sampler alone at batch 1, encoding included."""
    seconds = []
    for seed in range(count):
        begun = time.perf_counter()
        pictures(model, [PROMPT], seed=seed)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def held_mb() -> float:
    """MiB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def endurance(model: Model, requests: int) -> None:
    """Memory after a tenth of the requests, and after all."""
    asyncio.run(load(model, Limits(queue=64), requests // 10, 8))
    gc.collect()
    before = held_mb()
    statuses, _, _ = asyncio.run(load(model, Limits(queue=64), requests, 8))
    gc.collect()
    print(f"memory: {before:.0f} MiB, after {len(statuses)} more requests {held_mb():.0f} MiB")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("student")
    asked.add_argument("--requests", type=int, default=200)
    asked.add_argument("--clients", type=int, default=200)
    asked.add_argument("--endurance", type=int, default=2000)
    options = asked.parse_args()
    model = load_student(options.student)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")

    statuses, _, total = asyncio.run(load(model, Limits(queue=options.clients), options.requests, options.clients))
    print(f"{options.clients} clients: {statuses.count(200)} of {options.requests} answered, {total:.1f} s")

    rates = {}
    for batch in (1, 8, 1, 8):  # in turn: the load of a machine drifts
        statuses, _, total = asyncio.run(load(model, Limits(queue=64, batch=batch), options.requests // 4, 8))
        rates.setdefault(batch, []).append(len(statuses) / total)
    one, eight = (statistics.mean(rates[batch]) for batch in (1, 8))
    print(f"8 clients: {one:.1f} pictures/s drawn singly, {eight:.1f} in batches of up to 8: {eight / one:.2f} x")

    medians = [(bare(model, 15), statistics.median(asyncio.run(load(model, Limits(), 15, 1))[1])) for _ in range(3)]
    alone, served = (statistics.median(each) for each in zip(*medians, strict=True))
    print(f"batch 1: bare sampler p50 {1000 * alone:.0f} ms, served {1000 * served:.0f} ms: {served / alone:.2f} x")
    endurance(model, options.endurance)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
