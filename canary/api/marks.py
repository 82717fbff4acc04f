"""Every label and annotation that canary puts on objects that others own or read, in one place and spelled once.

No pydantic here: the brake, the sentinel and the command line read these words, too. The annotations that people put
on a change are in `api/change.py`.
"""

from enum import StrEnum

from canary.api.reasons import GROUP

SIDE_SUFFIX = "-canary"
WAY_BACK_SUFFIX = "-lastgood"
MANAGED_BY = "canary-controller"


class Mark(StrEnum):
    """Keys of our labels and annotations."""

    # labels
    GUARDED = f"{GROUP}/guarded"  # "true" on a Deployment whose changes are held
    ATTACHED = f"{GROUP}/attached"  # "true" on a route that names a side
    ROLE = f"{GROUP}/role"  # ROLE_CANARY or ROLE_LAST_GOOD on everything of a side, pods included
    SIDE = f"{GROUP}/side"  # on everything of a side: its name; its pods are selected by this alone
    TARGET = f"{GROUP}/target"  # on everything of a side: the Deployment that it stands beside
    RUN = f"{GROUP}/run"  # the run's name: a label on side objects, an annotation on routes
    # annotations of a route
    EPOCH = f"{GROUP}/epoch"  # new with every rollback write
    WEIGHT = f"{GROUP}/weight-ppm"  # the side's weight as we last wrote it
    WAY_BACK = (
        f"{GROUP}/way-back-ppm"  # the same of the last good version's own pods, after a commit went wrong
    )
    STABLE = f"{GROUP}/stable"  # the Service that the side stands beside
    FORMER = f"{GROUP}/former-weights"  # rule index -> the stable weight before us; null: there was none
    KILL = f"{GROUP}/kill"  # [[rule, canary, stable], ...]: while it is there, the brake may be pulled
    ADDRESSES = f"{GROUP}/addresses"  # on a slice of ours: what we last wrote, "10.1.0.7,10.1.0.9"
    READ_ONLY = f"{GROUP}/read-only"  # "true": the owner says that these requests change nothing
    AUDIT_HEAD = (
        f"{GROUP}/audit-head"  # of the heartbeat's Lease: the newest record, and when that was written here
    )
    # annotations that people write
    BREAK_GLASS = f"{GROUP}/break-glass-reason"  # why the guard is passed by, on the object that is written
    # annotation of an autoscaler
    FORMER_BEHAVIOR = (
        f"{GROUP}/former-behavior"  # its spec.behavior from before the freeze, as JSON; null: none
    )
    # annotations of side objects
    TEMPLATE_HASH = f"{GROUP}/template-hash"  # the tested template, as the target asks for it
    SIDE_HASH = f"{GROUP}/side-hash"  # the same template as rewritten for the side


TRUE = "true"
ROLE_CANARY = "canary"
ROLE_LAST_GOOD = "lastgood"


def side_name(name: str) -> str:
    """Return the name of the side that stands beside a Deployment or a Service of this name."""
    return name + SIDE_SUFFIX


def way_back_name(name: str) -> str:
    """Return the name of what serves the last good version after a commit that is taken back."""
    return name + WAY_BACK_SUFFIX
