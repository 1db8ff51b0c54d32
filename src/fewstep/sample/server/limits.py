"""The limits of a request, and the error that refuses one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and how many requests may wait. They bound memory: a waiting request holds its
    body and its decoded references, and at most `queue` requests are read at a time."""

    queue: int = 32  # accepted requests without a response yet; further ones get a 429
    batch: int = 8  # pictures drawn together
    max_pixels: int = 2048 * 2048  # of a picture asked for
    max_reference_pixels: int = 16_000_000  # of all reference pictures of a request together
    max_pictures: int = 4  # of one request
    max_prompt: int = 10_000  # characters
    max_json: int = 128 * 1024  # bytes
    max_upload: int = 32 * 1024 * 1024  # bytes, of a request with pictures


class RequestRefused(Exception):
    """A request that is refused. status: the HTTP status. param: the field that is the reason, if any."""

    def __init__(self, status: int, message: str, param: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param

    def body(self) -> dict[str, object]:
        """The JSON body, in OpenAI's form of errors."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.status}}
