"""What rules a run or a policy now: the safety policies from their cache, and the facts that their rules are about.

Read by both tickers before they decide; the judgement itself is in `core`. A policy that cannot be read counts as the
strictest there is, and while the cache is not filled nothing rises. Starting is taken in turns, so that two changes
never take the last free place together.
"""

import logging
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from canary.api.read import InvalidObject, parse_approved, parse_safety
from canary.api.reasons import GROUP, MissingReason, Origin, Phase, Verb, Verdict
from canary.api.run import Approval
from canary.api.safety import SafetyPolicySpec
from canary.api.types import format_timestamp
from canary.core.decision import Run
from canary.core.evidence import Directive, Evidence, Missing, Neighbour, Safety
from canary.core.rules.approvals import Electorate, approval_of, signed_text
from canary.core.rules.effective import STRICTEST, Effective, effective, terms_of
from canary.core.rules.limits import REPEATS_DAYS, orders_a_day
from canary.core.rules.weakening import Weakening, Weaker, record_of_text, text_in_force
from canary.core.telling.stored import StoredRun, under
from canary.core.telling.wording import moment
from canary.errors import CanaryError, RefusedError, UnavailableError
from canary.kube.cache import Cache
from canary.kube.client import Intent
from canary.kube.resources import SUBJECTACCESSREVIEWS
from canary.operator.hands import Hands
from canary.operator.look import Gathered
from canary.operator.objects import Asked, Json, Shelf, approvals_of

logger = logging.getLogger(__name__)
CENSUS_SECONDS = 1.0
RIGHT_SECONDS = 5.0  # for so long an answer about a right is believed
MAX_RIGHTS = 1_000


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches that the rules are read from."""

    policies: Cache
    runs: Cache


class Rulebook:
    """Answers what rules; safe between threads."""

    def __init__(self, hands: Hands, caches: Caches) -> None:
        self._hands = hands
        self._caches = caches
        self._read: Shelf[SafetyPolicySpec] = Shelf(_spec_of)
        self._rights: dict[tuple[str, str], tuple[float, bool]] = {}
        self._starting, self._counting = threading.Lock(), threading.Lock()
        self._begun: frozenset[str] = frozenset()
        self._census: tuple[float, list[tuple[str, Neighbour]]] | None = None

    def ruling(self, tier: int) -> Effective | Missing | None:
        """Return what the safety policies say of a tier now; None where none was written for it."""
        if not self._caches.policies.synced:
            return Missing(MissingReason.NOT_READ, "the cache has not been filled yet")
        return effective(self.policies(), tier, self._hands.clock.now())

    def safety_of(self, run: Run, *, falls: bool = False) -> Safety | Missing | None:
        """Return what rules a run now, with the facts that the rules are about; nobody is asked while it `falls`."""
        ruling = self.ruling(run.spec.policy.tier)
        if ruling is None or isinstance(ruling, Missing):
            return ruling
        status = [under(stored, "status") for stored in self._stored(ruling.names)]
        released = [found for each in status if (found := moment(under(each, "brakeReleasedAt"))) is not None]
        return Safety(
            names=ruling.names,
            rules=ruling.spec,
            digest=terms_of(ruling).digest or "",
            zones=zones_of(ruling.spec),
            people=self._hands.people(),
            may_approve={} if falls else self._may_approve(run),
            neighbours=self.neighbours(run.uid),
            braked=next(
                (str(under(each, "brake", "message")) for each in status if under(each, "brake")), ""
            ),
            brake_released_at=max(released, default=None),
        )

    def added_to(self, gathered: Gathered, run: Run) -> Gathered:
        """Return what was gathered of a run, with what rules it."""
        subject = f"{run.namespace}/{run.name}"
        asked = tuple(self.with_presence(each, subject) for each in gathered.evidence.directives)
        safety = self.safety_of(run, falls=_falls(gathered.evidence))
        evidence = replace(gathered.evidence, safety=safety, directives=asked)
        return replace(gathered, evidence=evidence)

    def with_presence(self, asked: Directive, subject: str) -> Directive:
        """Return the directive, marked where its requester's security key was touched for it."""
        person = self._hands.people().owner(asked.requester) if asked.signature else None
        if person is None:
            return asked
        from canary.audit import sshsig  # its cryptography is needed only here

        expires = format_timestamp(asked.expires_at) if asked.expires_at is not None else ""
        text = signed_text(asked.verb.value, subject, asked.digest, asked.requester, expires)
        try:
            sshsig.verify(asked.signature, text, person.keys)
        except RefusedError as error:
            logger.warning("the signature of %s by %s does not count: %s", asked.name, asked.requester, error)
            return asked
        return replace(asked, present=True)

    @contextmanager
    def turn_of(self, run: Run) -> Generator[None]:
        """Let one run after the other leave Held: who looks next sees that this one has begun."""
        if run.status.phase is not Phase.HELD:
            yield
            return
        with self._starting:
            yield

    def began(self, before: Run, after: Run) -> None:
        """Remember that a run has left Held and takes a place, until the cache says so, too."""
        left = before.status.phase is Phase.HELD and after.status.phase is not Phase.HELD
        if left and not after.status.phase.final and after.spec.origin is not Origin.HUMAN:
            with self._counting:
                self._begun |= {after.uid}

    # -- facts -----------------------------------------------------------------------------------------------------

    def policies(self) -> dict[str, SafetyPolicySpec]:
        """Return the text in force of every safety policy, by its name."""
        return {
            stored["metadata"]["name"]: self._read.read(stored) for stored in self._caches.policies.list()
        }

    def weakening(self, stored: Json, asked: Asked, requests: Iterable[Json], weaker: Weaker) -> Weakening:
        """Return what people said of a stored policy's weaker text. UnavailableError: it is not known who may."""
        meta, people = stored["metadata"], self._hands.people()
        about = asked.uid, meta.get("namespace") or self._hands.system, asked.name
        given = [
            approval_of(self.with_presence(each, f"{about[1]}/{asked.name}"), at)
            for each, at in approvals_of(requests, asked)
            if each.digest == weaker.digest
        ]
        may: dict[str, bool] = {}
        for each in given:
            answer = self.may_approve(about, each)
            if answer is None:  # an answer that is given once stands: this look waits
                raise UnavailableError(f"whether {each.requester} may approve is not known now")
            may[each.requester] = answer
        record = record_of_text(meta.get("annotations") or {}, people)
        return Weakening(weaker.fields, Electorate(record, weaker.digest, weaker.rules, people, may), given)

    def _stored(self, names: Iterable[str]) -> list[Json]:
        wanted = set(names)
        return [each for each in self._caches.policies.list() if each["metadata"]["name"] in wanted]

    def neighbours(self, own_uid: str) -> tuple[Neighbour, ...]:
        """Return what the limits must know of every run but this one; counted anew once a second."""
        now = self._hands.clock.monotonic()
        if self._census is None or not 0 <= now - self._census[0] < CENSUS_SECONDS:
            self._census = now, list(self._counted())
        begun = self._begun
        others = [(uid, each) for uid, each in self._census[1] if uid != own_uid]
        return tuple(replace(each, active=True) if uid in begun else each for uid, each in others)

    def _counted(self) -> Generator[tuple[str, Neighbour]]:
        """Yield every run that may matter, by its uid; those that left Held are known to have, from now on."""
        now = self._hands.clock.now()
        since = now - timedelta(days=REPEATS_DAYS)
        held: set[str] = set()
        for raw in self._caches.runs.list():
            run = StoredRun(raw)
            ended = run.at("finishedAt")
            if ended is not None and ended < since:
                continue
            held |= {run.uid} if run.phase == Phase.HELD else set()
            yield run.uid, _neighbour(run, ended, now)
        with self._counting:
            self._begun &= held

    def _may_approve(self, run: Run) -> Mapping[str, bool]:
        """Ask the API server again whether each approver still may; who it cannot be asked about is left out.

        One question without an answer is enough for a look: the others would wait as long.
        """
        answers: dict[str, bool] = {}
        for approval in run.status.approvals:
            answer = self.may_approve((run.uid, run.namespace, run.name), approval)
            if answer is None:
                break
            answers[approval.requester] = answer
        return answers

    def may_approve(self, about: tuple[str, str, str], approval: Approval) -> bool | None:
        """Ask whether somebody may approve this (its uid, namespace and name) now; None: nobody knows."""
        (uid, namespace, name), user = about, approval.requester
        now = self._hands.clock.monotonic()
        known = self._rights.get((uid, user))
        if known is not None and now - known[0] < RIGHT_SECONDS:
            return known[1]
        what = {"group": GROUP, "resource": "canaryruns", "name": name, "namespace": namespace}
        spec = {"user": user, "groups": approval.groups, "resourceAttributes": {**what, "verb": "approve"}}
        kind = SUBJECTACCESSREVIEWS
        review = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        try:
            answer = self._hands.client.create(kind, review, intent=Intent.NEUTRAL)
        except CanaryError as error:
            logger.warning("whether %s may approve %s is not known: %s", user, name, error)
            return None
        allowed = under(answer, "status", "allowed") is True
        self._rights = self._rights if len(self._rights) < MAX_RIGHTS else {}
        self._rights[uid, user] = now, allowed
        return allowed


def _falls(evidence: Evidence) -> bool:
    """Tell whether this look takes traffic back anyhow: that waits for no question about anybody's rights."""
    found, asked = evidence.finding, {each.verb for each in evidence.directives}
    proved = not isinstance(found, Missing) and found.verdict in (Verdict.ROLL_BACK, Verdict.DRAIN)
    return proved or bool(asked & {Verb.ABORT, Verb.REJECT})


def _neighbour(run: StoredRun, ended: datetime | None, now: datetime) -> Neighbour:
    taken_back = Phase.ROLLED_BACK in (run.phase, run.text("status", "outcomePhase"))
    exposed = run.at("exposedAt") is not None
    return Neighbour(
        workload=f"{run.namespace}/{run.workload}",
        active=run.phase != Phase.HELD and not run.final and run.origin != Origin.HUMAN,
        rolled_back_at=(run.at("decidedAt") or ended) if taken_back and exposed else None,
        lost=max(0.0, run.figure("lost" if taken_back else "lostLow") or 0.0),
        seen_at=ended or now,
        orders_a_day=orders_a_day(run, now),
    )


def _spec_of(stored: Json) -> SafetyPolicySpec:
    """Return the text in force: as written, but nowhere weaker than what was approved."""
    try:
        written = parse_safety(stored)
    except InvalidObject as error:
        logger.error("SafetyPolicy %s counts as the strictest: %s", stored["metadata"]["name"], error)
        return STRICTEST
    return text_in_force(approved_of(stored), written)


def approved_of(stored: Json) -> SafetyPolicySpec | None:
    """Return the last approved text of a stored safety policy; None where it was never looked at."""
    text = under(stored, "status", "effective")
    if not isinstance(text, str) or not text:
        return None
    try:
        return parse_approved(text)
    except InvalidObject as error:
        logger.error("what SafetyPolicy %s said before: %s", stored["metadata"]["name"], error)
        return STRICTEST


def zones_of(spec: SafetyPolicySpec) -> dict[str, tzinfo | None]:
    """Return the data of every time zone that the freezes name; None where this machine has none."""
    return {freeze.timezone: _zone(freeze.timezone) for freeze in spec.freezes}


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there, no zone's name, not readable
        return None
