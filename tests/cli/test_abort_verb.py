"""abort: the traffic goes back, with a controller or without, with our objects readable or not."""

import json

from cli_bed import Answering, Bed
from run_story import a_run, exposed, rolled_back

from canary.kube.client import Intent
from canary.kube.resources import CANARYRUNS, HTTPROUTES

pytest_plugins = ["cli_fixtures"]
BACK = [1_000_000, 0]


def controller_that_acts(cli: Bed):
    """Set the route to 0 as the controller does, then answer."""

    def act(request):
        weights = [
            {"op": "add", "path": f"/spec/rules/0/backendRefs/{index}/weight", "value": weight}
            for index, weight in enumerate(BACK)
        ]
        cli.controller.json_patch(HTTPROUTES.at("shop", "checkout"), weights, intent=Intent.LOWERING)
        return {"outcome": "Done", "message": "all traffic goes back to the old version"}

    return act


def test_a_controller_that_acts_is_left_to_it(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    with Answering(cli, controller_that_acts(cli)):
        said = cli.canary("abort", "checkout", "--reason", "orders are missing", "-o", "json")
    assert said.code == 0
    assert json.loads(said.out)["by"] == "controller"
    assert cli.weights() == BACK
    assert cli.requests()[0]["spec"]["reason"] == "orders are missing"


def test_a_controller_that_does_not_act_in_time_is_not_waited_for(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    said = cli.canary("abort", "checkout", "--timeout", "300ms")
    assert said.code == 0
    assert said.out.startswith("aborted by this command")
    assert "the controller did not act within" in said.err
    assert cli.weights() == BACK
    assert len(cli.requests()) == 1, "the controller still has to hear of it, to end the run"


def test_a_stale_heartbeat_is_not_waited_for_at_all(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    cli.heartbeat(60)
    said = cli.canary("abort", "checkout")
    assert said.code == 0
    assert "no controller for 60 s: taking the side out of the route from here" in said.err
    assert cli.weights() == BACK


def test_abort_now_writes_the_route_first_and_tells_the_controller(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    cli.heartbeat(1)
    said = cli.canary("abort", "checkout", "--now")
    assert said.code == 0
    assert said.out.startswith("aborted by this command")
    assert cli.weights() == BACK
    assert [request["spec"]["verb"] for request in cli.requests()] == ["abort"]


def test_a_second_abort_is_as_good_as_the_first(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    assert [cli.canary("abort", "--now").code for _ in range(2)] == [0, 0]
    assert cli.weights() == BACK


def test_without_any_readable_run_the_route_itself_says_enough(cli: Bed):
    cli.put_route()
    said = cli.canary("abort", "shop/checkout", "--now")
    assert said.code == 0
    assert "looking at the routes" in said.err
    assert cli.weights() == BACK


def test_a_machine_may_abort(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    assert cli.canary("abort", "--now", person="agent").code == 0
    assert cli.weights() == BACK


def test_a_route_that_was_rearranged_is_still_taken_back(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    route = cli.controller.get(HTTPROUTES.at("shop", "checkout"))
    assert route is not None
    refs = list(reversed(route["spec"]["rules"][0]["backendRefs"]))
    swapped = [{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": refs}]
    cli.controller.json_patch(HTTPROUTES.at("shop", "checkout"), swapped, intent=Intent.LOWERING)
    assert cli.canary("abort", "--now").code == 0
    assert cli.weights() == [0, 1_000_000]


def test_past_the_point_of_no_return_the_brake_is_not_pulled(cli: Bed):
    """There the old pods are leaving: all traffic on the old Service would be an outage."""
    cli.put_route(1_000_000, armed=False)
    said = cli.canary("abort", "checkout", "--now")
    assert said.code == 2
    assert "CAN-5003 route checkout has passed the point of no return" in said.err
    assert cli.weights() == [0, 1_000_000]


def test_a_commit_under_way_is_left_to_the_controller(cli: Bed):
    run = exposed(ppm=1_000_000)
    run["status"] |= {"phase": "Committing"}
    cli.put(run)
    cli.put_route(1_000_000, armed=False)
    said = cli.canary("abort", "checkout", "--now", "--timeout", "300ms")
    assert said.code == 1
    assert "CAN-5003 the commit has begun" in said.err
    assert cli.weights() == [0, 1_000_000]


def test_a_held_run_has_nothing_to_take_back_and_is_ended(cli: Bed):
    cli.put(a_run())
    with Answering(cli, lambda request: {"outcome": "Done", "message": "the run ended"}):
        said = cli.canary("abort", "checkout")
    assert (said.code, said.out.split(": ", 1)[1]) == (0, "the run ended\n")


def test_what_is_over_needs_no_abort(cli: Bed):
    cli.put(rolled_back())
    said = cli.canary("abort", "checkout")
    assert (said.code, said.out) == (
        0,
        "nothing left to abort: the run is RolledBack, v2.30.4 serves 100 %\n",
    )


def test_a_superseded_run_points_to_the_newer_one(cli: Bed):
    run = rolled_back()
    run["status"] |= {"phase": "Superseded", "message": "a newer change was pushed"}
    cli.put(run)
    said = cli.canary("abort", "run/checkout-7f9c2")
    assert said.code == 6
    assert said.err.startswith("CAN-5001 superseded: a newer change was pushed; nothing to abort")


def test_a_dry_run_says_which_routes_and_writes_nothing(cli: Bed):
    cli.put(exposed())
    cli.put_route()
    said = cli.canary("abort", "--now", "--dry-run")
    assert said.err == "would take checkout-canary out of checkout in shop: all traffic to checkout\n"
    assert cli.weights() == [990_000, 10_000]


def test_a_route_that_may_not_be_written_ends_with_the_last_resort(cli: Bed, monkeypatch):
    cli.put(exposed())
    cli.put_route()

    def no_routes(request):
        if request.kind.name == "HTTPRoute":
            raise request.denied("team-policy")

    monkeypatch.setattr(cli.cluster.server, "rules", [no_routes, *cli.cluster.server.rules])
    said = cli.canary("abort", "--now")
    assert said.code == 2
    assert "CAN-3004 the route could not be written" in said.err
    assert "kubectl -n shop scale deploy/checkout-canary --replicas=0" in said.err


def test_a_request_that_is_refused_does_not_keep_the_traffic_there(cli: Bed, monkeypatch):
    cli.put(exposed())
    cli.put_route()

    def no_requests(request):
        if request.kind.name == "CanaryRequest":
            raise request.denied("not today")

    monkeypatch.setattr(cli.cluster.server, "rules", [no_requests, *cli.cluster.server.rules])
    said = cli.canary("abort")
    assert said.code == 0
    assert "the controller could not be asked" in said.err
    assert cli.weights() == BACK
    assert cli.controller.get(CANARYRUNS.at("shop", "checkout-7f9c2")) is not None
