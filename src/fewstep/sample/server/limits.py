"""The limits of a request, and the error that refuses one."""

from dataclasses import dataclass

# What OpenAI's server calls a refusal, where it has a word for it. Clients read a string or null, never a number.
CODES = {404: "unknown_url", 405: "method_not_supported", 429: "rate_limit_exceeded"}
KINDS = {429: "rate_limit_error"}


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for, and how many requests may wait. They bound memory: a waiting request holds its
    body and its decoded references, and at most `queue` requests are read at a time."""

    queue: int = 32  # accepted requests without a response yet; further ones get a 429
    batch: int = 8  # pictures drawn together
    max_pixels: int | None = None  # of a picture asked for; None: twice the student's own area
    max_reference_pixels: int = 16_000_000  # of all reference pictures of a request together
    max_pictures: int = 4  # of one request
    max_prompt: int = 10_000  # characters
    max_json: int = 128 * 1024  # bytes
    max_upload: int = 32 * 1024 * 1024  # bytes, of a request with pictures


class RequestRefused(Exception):
    """A request that is refused.

    status: the HTTP status. param: the field that is the reason, if any. code: one of OpenAI's words for the kind of
    refusal; where it is not given, it follows from the status.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or CODES.get(status) or ("invalid_value" if status == 400 and param else None)

    def body(self) -> dict[str, object]:
        """The JSON body, in OpenAI's form of errors. Half of a surrogate pair, which no answer can hold, is escaped."""
        kind = "server_error" if self.status >= 500 else KINDS.get(self.status, "invalid_request_error")
        param = None if self.param is None else _encodable(self.param)
        return {"error": {"message": _encodable(self.message), "type": kind, "param": param, "code": self.code}}


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
