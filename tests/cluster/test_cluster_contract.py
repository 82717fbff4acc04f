"""The API contract of the lab, against the real thing: the contract, not the lab, is the truth.

Where a check asks for more than the real server gives, it stands in `TOO_MUCH` with what is so instead, and a test
here shows that. Whoever mends the check is told by a test that then fails.
"""

from threading import Timer
from typing import Any

import pytest
from cluster_bed import Bed

from canary.kube.resources import HTTPROUTES, LEASES
from canary.lab.contracts.api import API_CHECKS, Api, Check, wanted
from canary.lab.contracts.workload import WORKLOAD_CHECKS

pytest_plugins = ["cluster_fixtures"]
TOO_MUCH = {
    "a_watch_that_ends_leaves_a_bookmark": "one comes two seconds before the end, and only with news",
    "status_and_spec_do_not_write_each_other": "the Gateway API wants at least one condition of every parent",
}


def checks() -> list[Any]:
    """Return the checks; those that ask for too much are expected to fail, and to fail only."""
    return [
        pytest.param(
            check, id=name, marks=[pytest.mark.xfail(reason=TOO_MUCH[name])] if name in TOO_MUCH else []
        )
        for check in API_CHECKS + WORKLOAD_CHECKS
        if (name := check.__name__)
    ]


@pytest.fixture(scope="module")
def api(bed: Bed) -> Api:
    return Api(bed.transport("admin"), bed.namespace("contract"))


@pytest.mark.parametrize("check", checks())
def test_the_real_api_server_keeps_the_contract(check: Check, api: Api) -> None:
    check(api)


def test_a_watch_of_some_seconds_leaves_a_bookmark_where_the_kind_had_an_event_elsewhere_meanwhile(
    bed: Bed, api: Api
) -> None:
    version = api.config(api.fresh())["metadata"]["resourceVersion"]
    query = {
        "watch": "true",
        "resourceVersion": version,
        "timeoutSeconds": "6",
        "allowWatchBookmarks": "true",
    }
    elsewhere = Timer(1.0, bed.make, [LEASES, "an-event", "default"], {"spec": {}})
    elsewhere.start()
    events = list(api.transport.stream(LEASES.collection(api.namespace), query))
    elsewhere.join()
    event = bed.admin.get(LEASES.at("default", "an-event"))
    assert event is not None
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) >= int(
        event["metadata"]["resourceVersion"]
    )


def test_status_and_spec_do_not_write_each_other_on_a_whole_status_of_a_route(api: Api) -> None:
    name = api.fresh()
    backends = [{"name": "shop", "port": 80}]
    api.make(
        HTTPROUTES, name, spec={"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": backends}]}
    )
    condition = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    told = {**condition, "lastTransitionTime": "2026-03-05T00:00:00Z"}
    parent = {"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": [told]}
    patch = {"status": {"parents": [parent]}, "spec": {"hostnames": ["a.example.com"]}}
    api.patch(HTTPROUTES, name, {"status": patch["status"]})
    assert not api.get(HTTPROUTES, name).get("status", {}).get("parents")
    written = wanted(200, api.ask("PATCH", HTTPROUTES, f"{name}/status", patch))
    assert "hostnames" not in written["spec"]
    assert written["metadata"]["generation"] == 1
    assert written["status"]["parents"][0]["controllerName"] == "example.com/gateway"
