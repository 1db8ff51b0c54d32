"""An address that a server listens at, taken before anything long begins."""

import socket

from fewstep.runtime.errors import EnvironmentRefused

LOCAL = ("127.0.0.1", "::1", "localhost")


def bound_socket(host: str, port: int) -> socket.socket:
    """
    Args:
        port: 0 takes a free one.

    Raises:
        EnvironmentRefused: the port is in use, or there is no such host.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        why = getattr(error, "strerror", None) or error
        raise EnvironmentRefused(
            f"{host:.80}:{port} cannot be listened at ({why}); choose another --host or --port"
        ) from error
