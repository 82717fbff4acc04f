"""L3, the sample-ratio test: does the side get the share of requests that the route gives it?

Counts of requests since a weight was verified go in, a `Share` comes out. Each question is a test by betting against
the edge of a band (Ville 1939; Howard, Ramdas, McAuliffe and Sekhon 2021): with c of n requests at the side, the
likelihood ratio of a share p_g against the edge p_0 is a martingale for the edge and a supermartingale for all shares
behind it. So the promises hold however often one looks, and the two sums are all the memory that is needed: start
anew whenever the weight changes. Splitters that take turns vary less than chance does, which only makes false alarms
rarer.
"""

import math
from dataclasses import dataclass

from canary.core.evidence import Share

FALSE_ALARM = 1e-4  # per weight and direction: chance that an obedient splitter is ever accused
DOUBT = 0.05  # per direction: chance to call a share as asked that is twice or half of it
LEFTOVER = 0.01  # chance to see none of the former share by luck
BAND = 0.25  # a share within this part of the asked one is no finding
OVER_RATIOS = (1.5, 2.0, 4.0, 16.0)
UNDER_RATIOS = (0.5, 0.25, 0.1, 0.0)
CERTAIN = 0.99  # a bet on a share of 1 would be lost for ever by one stray request


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests counted at the pods since the weight was verified."""

    canary: float = 0.0
    total: float = 0.0

    def add(self, canary: float, total: float) -> "Tally":
        """Return the tally with one more look's requests. `total` counts both arms."""
        return Tally(self.canary + canary, self.total + total)


def judge_share(tally: Tally, asked: float) -> Share:
    """Tell whether the share is as asked; `asked` is a part of 1, the weight times an accepted coverage.

    OVER and UNDER: the share is beyond the asked one by more than a quarter of it, with error FALSE_ALARM each.
    AS_ASKED: it is neither half nor double, with error DOUBT each; that takes about 16/asked requests.
    """
    alarm = math.log(1 / FALSE_ALARM)
    if _evidence(tally, asked * (1 + BAND), [ratio * asked for ratio in OVER_RATIOS]) >= alarm:
        return Share.OVER
    if _evidence(tally, asked * (1 - BAND), [ratio * asked for ratio in UNDER_RATIOS]) >= alarm:
        return Share.UNDER
    proof = math.log(1 / DOUBT)
    not_half = _evidence(tally, asked / 2, [asked]) >= proof
    not_double = 2 * asked >= CERTAIN or _evidence(tally, 2 * asked, [asked]) >= proof
    return Share.AS_ASKED if not_half and not_double else Share.UNPROVEN


def judge_zero(tally: Tally, former: float) -> Share:
    """After a rollback write: tell whether requests flow and none reaches the side.

    `former` is the share before the write. NONE_LEFT needs so many requests that seeing none of the former share
    by luck has a chance below LEFTOVER: about 4.6/former. Start a new tally at the last look that still saw one.
    """
    if tally.canary > 0:
        return Share.OVER
    misses = -math.log1p(-min(former, CERTAIN)) * tally.total
    return Share.NONE_LEFT if tally.total > 0 and misses >= -math.log(LEFTOVER) else Share.UNPROVEN


def _evidence(tally: Tally, edge: float, shares: list[float]) -> float:
    """Return the log evidence, in nats, that the share is beyond `edge`, by equal bets on `shares`.

    An edge so near to 1 that no bet fits behind it cannot be passed.
    """
    if not 0 < edge < CERTAIN:
        return -math.inf
    bets = [_log_ratio(tally, min(share, CERTAIN), edge) for share in shares]
    best = max(bets)
    if best == -math.inf:
        return best
    return best + math.log(math.fsum(math.exp(bet - best) for bet in bets) / len(bets))


def _log_ratio(tally: Tally, share: float, edge: float) -> float:
    """Return the log likelihood ratio of c of n under `share` against `edge`."""
    misses = max(0.0, tally.total - tally.canary)
    hits = tally.canary * math.log(share / edge) if share > 0 else (-math.inf if tally.canary > 0 else 0.0)
    return hits + misses * math.log((1 - share) / (1 - edge))
