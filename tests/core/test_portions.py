"""Shares in whole pods: never above what was asked, whatever numbers meet."""

from hypothesis import given, settings
from hypothesis import strategies as st

from canary.api.policy import Step
from canary.api.reasons import PPM, Origin
from canary.core.portions import in_whole_pods, pods_within, refusal_of_plan, share_ppm

SHARES, PODS = st.integers(1, PPM), st.integers(1, 2_000)
unhurried = settings(deadline=None)  # a busy machine takes its time
PLANS = st.lists(SHARES, min_size=1, max_size=12, unique=True).map(sorted)


def plan(*weights: int) -> list[Step]:
    return [Step(weight=weight) for weight in weights]


@unhurried
@given(SHARES, PODS)
def test_a_share_is_the_most_pods_that_are_not_above_it_nor_above_a_half(asked: int, stable: int):
    pods = pods_within(asked, stable)
    most = min(asked, PPM // 2)
    assert pods * PPM <= most * (stable + pods)
    assert (pods + 1) * PPM > most * (stable + pods + 1)
    assert pods <= stable


@unhurried
@given(SHARES, SHARES, PODS, PODS)
def test_less_asked_or_fewer_others_never_means_more_pods(one: int, other: int, stable: int, later: int):
    assert pods_within(min(one, other), stable) <= pods_within(max(one, other), stable)
    assert pods_within(one, min(stable, later)) <= pods_within(one, max(stable, later))


@unhurried
@given(SHARES, PODS)
def test_a_share_that_was_made_of_pods_is_made_of_the_same_pods_again(asked: int, stable: int):
    pods = pods_within(asked, stable)
    assert share_ppm(pods, stable) <= asked
    assert pods_within(share_ppm(pods, stable), stable) == pods


@unhurried
@given(PLANS, PODS)
def test_a_plan_in_whole_pods_rises_and_no_step_of_it_is_above_one_that_was_asked(
    weights: list[int], stable: int
):
    found = [step.weight for step in in_whole_pods(plan(*weights), stable)]
    assert found == sorted(set(found))
    for weight in found:
        assert any(
            weight <= asked and share_ppm(pods_within(asked, stable), stable) == weight for asked in weights
        )


def test_what_a_step_asks_of_people_and_of_evidence_goes_to_the_one_that_stands_for_it():
    steps = [
        Step(weight=10_000, approval=True),
        Step(weight=50_000, min_orders=7),
        *plan(250_000, 260_000, 500_000),
    ]
    found = in_whole_pods(steps, 3)
    assert [(each.weight, each.approval, each.min_orders) for each in found] == [
        (250_000, True, 7),
        (500_000, False, 0),
    ]


def test_who_is_not_proved_human_begins_where_the_plan_begins_or_not_at_all():
    careful = plan(10_000, 500_000)
    for origin in (Origin.AI, Origin.UNKNOWN):
        assert "3 pods beside one of the new version give it 25 % at least" in refusal_of_plan(
            careful, origin, 3
        )
        assert refusal_of_plan(careful, origin, 99) == ""
    assert refusal_of_plan(careful, Origin.HUMAN, 3) == ""


def test_nobody_begins_where_no_step_makes_a_pod():
    said = refusal_of_plan(plan(300_000), Origin.HUMAN, 1)
    assert "1 pod beside one of the new version give it 50 % at least, and no step of the plan asks" in said
    assert refusal_of_plan(plan(500_000), Origin.HUMAN, 0) != ""
