"""A refusal of the embedded API server, as the `Status` object that Kubernetes clients know.

Raised by the store, the patches, the schemas and the admission rules; `protocol.py` turns it into an answer.
It stands outside the tree of `canary.errors` on purpose: it is what a *server* says, and `kube/client.py`
translates.
"""

from collections.abc import Sequence
from enum import Enum

from canary.lab.apiserver.objects import Object


class StatusReason(Enum):
    """The machine's word of a refusal, and its HTTP status."""

    BAD_REQUEST = ("BadRequest", 400)
    UNAUTHORIZED = ("Unauthorized", 401)
    FORBIDDEN = ("Forbidden", 403)
    NOT_FOUND = ("NotFound", 404)
    METHOD_NOT_ALLOWED = ("MethodNotAllowed", 405)
    ALREADY_EXISTS = ("AlreadyExists", 409)
    CONFLICT = ("Conflict", 409)
    EXPIRED = ("Expired", 410)
    TOO_LARGE = ("RequestEntityTooLarge", 413)
    UNSUPPORTED_MEDIA_TYPE = ("UnsupportedMediaType", 415)
    INVALID = ("Invalid", 422)
    TIMEOUT = ("Timeout", 504)


class ApiError(Exception):
    """What the server refuses, why, and the fields at fault."""

    def __init__(self, reason: StatusReason, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.word, self.code = reason.value
        self.message = message
        self.details = details

    def status(self) -> Object:
        """Return the body of the answer: kind Status."""
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.word,
            "code": self.code,
        }
        return body | ({"details": self.details} if self.details else {})


def invalid(kind: str, name: str, causes: Sequence[str]) -> ApiError:
    """Return the 422 of an object whose fields break rules."""
    listed = causes[0] if len(causes) == 1 else "[" + ", ".join(causes) + "]"
    split = [cause.partition(": ") for cause in causes]
    details = {
        "name": name,
        "kind": kind,
        "causes": [{"field": path, "message": said} for path, _, said in split],
    }
    return ApiError(StatusReason.INVALID, f'{kind} "{name}" is invalid: {listed}', details)


def conflict(resource: str, name: str, why: str) -> ApiError:
    """Return the 409 of a write that rests on an old view."""
    return ApiError(StatusReason.CONFLICT, f'Operation cannot be fulfilled on {resource} "{name}": {why}')


STALE = "the object has been modified; please apply your changes to the latest version and try again"
