"""Exit codes, and which error ends with which: what a script or a pipeline decides by.

`main` turns every `CanaryError` into a line on stderr and a code from here; `wait` turns the end of a run into one.
"""

from enum import IntEnum

from canary.api.reasons import Phase
from canary.errors import CanaryError, InvariantError, RefusedError


class Exit(IntEnum):
    """The codes, each with one meaning."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    DONE = 0, "done, promoted, condition met"
    FAILED = 1, "failed: the network, or a check did not pass"
    USAGE = 2, "wrong use, ambiguous, or refused as asked"
    ROLLED_BACK = 3, "rolled back or drained by verdict"
    NOT_ALLOWED = 4, "not allowed, or not authenticated"
    BY_PERSON = 5, "aborted or rejected by a person"
    SUPERSEDED = 6, "superseded by a newer change"
    NEEDS_HUMAN = 7, "needs a human (with --fail-on-hold)"
    STILL_RUNNING = 8, "still running at --timeout"
    BLIND = 9, "blind: no trustworthy verdict"
    IS_AI = 10, "written or touched by AI (flag --exit-code)"
    IS_UNKNOWN = 11, "of unknown origin, which counts as AI (flag --exit-code)"
    DEFECT = 70, "a defect of canary itself"
    INTERRUPTED = 130, "interrupted; the run goes on"


_OF_PHASE = {
    Phase.PROMOTED: Exit.DONE,
    Phase.ROLLED_BACK: Exit.ROLLED_BACK,
    Phase.DRAINING: Exit.ROLLED_BACK,
    Phase.ABORTED: Exit.BY_PERSON,
    Phase.REJECTED: Exit.BY_PERSON,
    Phase.SUPERSEDED: Exit.SUPERSEDED,
}
_OF_CODE = {"CAN-1202": Exit.NOT_ALLOWED, "CAN-1203": Exit.NOT_ALLOWED, "CAN-5001": Exit.SUPERSEDED}


def exit_of_phase(phase: str) -> Exit | None:
    """Return the code of a run that ended in this phase; None while it is under way."""
    return _OF_PHASE.get(Phase(phase)) if phase in set(Phase) else None


def exit_of_error(error: CanaryError) -> Exit:
    """Return the code of an error: by its CAN number, else by its class."""
    if error.code in _OF_CODE:
        return _OF_CODE[error.code]
    if isinstance(error, InvariantError):
        return Exit.DEFECT
    return Exit.USAGE if isinstance(error, RefusedError) else Exit.FAILED
