"""The sinks there are: a table of built-in ones, and whatever a third party installed under our entry point.

`operator/run.py` opens each configured sink once, at the start. A sink that cannot be opened is a configuration error
then and there, not a silence at three in the morning. Modules are imported only for sinks that are used.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from canary.alerts.outbox import Subscription
from canary.alerts.posting import Poster
from canary.alerts.sink import Sink, SinkConfig
from canary.clock import Clock
from canary.errors import RefusedError

ENTRY_POINTS = "canary.sinks"
BUILT_IN = {
    "webhook": "canary.alerts.webhook:Webhook",
    "alertmanager": "canary.alerts.alertmanager:Alertmanager",
}

Factory = Callable[[SinkConfig, Clock, Poster], Sink]


def open_sinks(configs: Iterable[SinkConfig], clock: Clock) -> dict[str, Sink]:
    """Return the sinks by name; raise RefusedError where one is unknown, named twice or wrongly addressed."""
    sinks: dict[str, Sink] = {}
    for config in configs:
        if config.name in sinks:
            raise RefusedError(f"two sinks are called {config.name}; give each its own name", code="CAN-4301")
        sinks[config.name] = _factory(config.kind)(config, clock, Poster())
    return sinks


def subscriptions(sinks: dict[str, Sink], wanted: Iterable[str] = ()) -> list[Subscription]:
    """Return what the outbox must know of the sinks that a policy names, in its order; naming none is naming all.

    A name that is not configured stays in the list, so that it shows as failing; where all names are such, every
    configured sink is told as well: a typing error must not keep a rollback from people.
    """
    names = list(dict.fromkeys(wanted))
    if not any(name in sinks for name in names):
        names += [name for name in sinks if name not in names]
    return [Subscription(name, sinks[name].repeat_seconds if name in sinks else 0.0) for name in names]


def _factory(kind: str) -> Factory:
    place = BUILT_IN.get(kind)
    if place is not None:
        module, _, name = place.partition(":")
        return cast(Factory, getattr(import_module(module), name))
    installed = entry_points(group=ENTRY_POINTS, name=kind)
    if not installed:
        known = ", ".join(sorted({*BUILT_IN, *entry_points(group=ENTRY_POINTS).names}))
        raise RefusedError(f"there is no sink of the kind {kind!r}; known are {known}", code="CAN-4301")
    return cast(Factory, next(iter(installed)).load())
