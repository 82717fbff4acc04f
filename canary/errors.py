"""The whole error tree: one class for each reaction, so that a caller never has to read a message.

    CanaryError
    |- RefusedError       asking again will not help: bad spec, closed gate, forbidden transition
    |- UnavailableError   something outside did not answer: missing evidence, retry with back-off
    |- ConflictError      somebody wrote first, or the lease is gone: drop this look and look again
    '- InvariantError     our own defect: keep the lower exposure, hold, page

Adapters translate at the edge and chain the cause (`raise UnavailableError(...) from error`).
"""


class CanaryError(Exception):
    """Base of every error that canary raises on purpose. `code` is a CAN-nnnn of the reference, or empty."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class RefusedError(CanaryError):
    """Asking again will not help; the message says what, where and what to do."""


class UnavailableError(CanaryError):
    """Something outside did not answer. `retry_after_seconds` is the least wait it asked for."""

    def __init__(self, message: str, *, code: str = "", retry_after_seconds: float = 0.0) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class ConflictError(CanaryError):
    """Somebody wrote first, or the lease is gone: what was decided rests on an old view."""


class InvariantError(CanaryError):
    """Our own defect. The lower exposure is kept, the run is held and a person is paged."""
