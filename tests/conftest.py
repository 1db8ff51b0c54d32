"""What every test runs under: one thread a process (the suite runs in several, and tiny networks gain nothing from
more), a cache of its own for shipped suites, one import of stock diffusers for all exports that are verified, a lock of
its own for progress bars, no other machine, and property tests that count examples instead of seconds, because the
machine may be busy. `--slow` also runs the tests that are marked so."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.processes import own_progress_lock
from tests.warm_python.fixture import warm_python

torch.set_num_threads(1)
own_progress_lock()

LOCAL = ("127.0.0.1", "::1", "localhost", "", None)


def no_other_machine(event: str, given: tuple[Any, ...]) -> None:
    """Fails a test that would reach for the network. It is no Exception, so that no code takes it for a lost hub."""
    host = given[0] if event == "socket.getaddrinfo" else given[1] if event == "socket.connect" else None
    host = host[0] if isinstance(host, tuple) else host  # else a local socket's path
    nowhere = str(host).startswith("/") or str(host).endswith(".invalid")  # RFC 6761: no such name exists
    if event in ("socket.getaddrinfo", "socket.connect") and host not in LOCAL and not nowhere:
        pytest.fail(f"{event} {host}: tests are offline")


sys.addaudithook(no_other_machine)

settings.register_profile("fewstep", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fewstep")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that take longer than a few seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shipped suites are drawn into a folder of this test run, never into the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSTEP_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def warm_python_for_verifying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stock diffusers is imported once for all exports that are verified."""
    with warm_python(tmp_path_factory.mktemp("warm")):
        yield
