"""The tests themselves: none of them can reach another machine without failing."""

import socket
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    "reach",
    [
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.create_connection(("192.0.2.1", 443), timeout=1),  # an address for documentation, RFC 5737
    ],
)
def test_another_machine_is_not_asked(reach: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="tests are offline"):
        reach()


def test_this_machine_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
