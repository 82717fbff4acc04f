"""A refusal of the embedded API server, as the `Status` object that Kubernetes clients know.

Raised by the store, the patches, the schemas and the admission rules; `apiserver.py` turns it into an answer.
It stands outside the tree of `canary.errors` on purpose: it is what a *server* says, and `kube/client.py`
translates.
"""

from collections.abc import Sequence
from enum import StrEnum

from canary.lab.objects import Object


class StatusReason(StrEnum):
    """The machine's word of a refusal; each has one HTTP status."""

    BAD_REQUEST = "BadRequest"
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    NOT_FOUND = "NotFound"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    ALREADY_EXISTS = "AlreadyExists"
    CONFLICT = "Conflict"
    EXPIRED = "Expired"
    TOO_LARGE = "RequestEntityTooLarge"
    UNSUPPORTED_MEDIA_TYPE = "UnsupportedMediaType"
    INVALID = "Invalid"
    TIMEOUT = "Timeout"

    @property
    def code(self) -> int:
        return _CODES[self]


_CODES = {
    StatusReason.BAD_REQUEST: 400,
    StatusReason.UNAUTHORIZED: 401,
    StatusReason.FORBIDDEN: 403,
    StatusReason.NOT_FOUND: 404,
    StatusReason.METHOD_NOT_ALLOWED: 405,
    StatusReason.ALREADY_EXISTS: 409,
    StatusReason.CONFLICT: 409,
    StatusReason.EXPIRED: 410,
    StatusReason.TOO_LARGE: 413,
    StatusReason.UNSUPPORTED_MEDIA_TYPE: 415,
    StatusReason.INVALID: 422,
    StatusReason.TIMEOUT: 504,
}


class ApiError(Exception):
    """What the server refuses, why, and the fields at fault."""

    def __init__(self, reason: StatusReason, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def code(self) -> int:
        return self.reason.code

    def status(self) -> Object:
        """Return the body of the answer: kind Status."""
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.value,
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
