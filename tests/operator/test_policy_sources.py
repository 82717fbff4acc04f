"""Which Prometheus a policy may ask, now and for the past."""

import pytest

from canary.api.policy import CanaryPolicySpec
from canary.clock import WallClock
from canary.errors import RefusedError
from canary.metrics.prometheus_history import PrometheusHistory
from canary.metrics.prometheus_witness import PrometheusWitness
from canary.metrics.scrape import ScrapeSource
from canary.operator.run import PolicySources

ADDRESS = "http://127.0.0.1:9"


def policy(**source: object) -> CanaryPolicySpec:
    analysis = {"orders": {"counter": "orders_total"}, "requests": {"counter": "requests_total"}}
    spec = {"target": {"kind": "Deployment", "name": "checkout"}, "analysis": analysis, "source": source}
    return CanaryPolicySpec.model_validate(spec)


def test_the_past_is_asked_of_the_prometheus_that_policy_and_settings_name() -> None:
    scrape = ScrapeSource(WallClock())
    sources = PolicySources(scrape, (ADDRESS,), WallClock())
    both = policy(scrape={}, prometheus={"address": ADDRESS})
    assert sources.of(both) is scrape
    assert isinstance(sources.history_of(both), PrometheusHistory)
    assert sources.history_of(both) is sources.history_of(policy(prometheus={"address": ADDRESS}))
    assert sources.history_of(policy(scrape={})) is None
    sources.close()


def test_a_witness_is_asked_of_the_prometheus_that_policy_and_settings_name() -> None:
    sources = PolicySources(ScrapeSource(WallClock()), (ADDRESS,), WallClock())
    witness, both = (
        {"orders": {"counter": "stored_total"}},
        {"scrape": {}, "prometheus": {"address": ADDRESS}},
    )
    assert isinstance(sources.witness_of(policy(**both, witness=witness)), PrometheusWitness)
    assert sources.witness_of(policy(**both)) is None
    assert (
        PolicySources(ScrapeSource(WallClock()), (), WallClock()).witness_of(policy(**both, witness=witness))
        is None
    )
    with pytest.raises(ValueError, match=r"source\.witness is asked of source\.prometheus"):
        policy(scrape={}, witness=witness)
    sources.close()


def test_a_prometheus_that_the_settings_do_not_name_is_not_asked() -> None:
    sources = PolicySources(ScrapeSource(WallClock()), (), WallClock())
    wanted = policy(prometheus={"address": ADDRESS})
    assert sources.history_of(wanted) is None
    with pytest.raises(RefusedError, match="not an allowed Prometheus"):
        sources.of(wanted)
    sources.close()
