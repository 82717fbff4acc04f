"""The sample-ratio test: its false-alarm promise exactly, its speed, and what it says of odd input."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary.core.evidence import Share
from canary.core.share import BAND, DOUBT, FALSE_ALARM, Tally, judge_share, judge_zero


def chance_of_ever(finding: Share, *, true_share: float, asked: float, requests: int) -> float:
    """Walk every possible history of `requests` single requests; return the chance that `finding` is ever made."""
    alive, found = {0: 1.0}, 0.0
    for total in range(1, requests + 1):
        after: dict[int, float] = {}
        for hits, chance in alive.items():
            if chance > 1e-15:
                after[hits] = after.get(hits, 0.0) + chance * (1 - true_share)
                after[hits + 1] = after.get(hits + 1, 0.0) + chance * true_share
        ends = [hits for hits in after if judge_share(Tally(hits, total), asked) is finding]
        found += sum(after.pop(hits) for hits in ends)
        alive = after
    return found


@pytest.mark.parametrize(
    ("finding", "edge"), [(Share.OVER, 1 + BAND), (Share.UNDER, 1 - BAND)], ids=["over", "under"]
)
def test_a_splitter_at_the_edge_of_the_band_is_accused_no_more_often_than_promised(
    finding: Share, edge: float
):
    asked = 0.1
    accused = chance_of_ever(finding, true_share=edge * asked, asked=asked, requests=700)
    assert 1e-9 < accused <= FALSE_ALARM


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_half_or_double_the_share_is_called_as_asked_no_more_often_than_promised(ratio: float):
    asked = 0.1
    fooled = chance_of_ever(Share.AS_ASKED, true_share=ratio * asked, asked=asked, requests=500)
    assert 1e-6 < fooled <= DOUBT


@pytest.mark.parametrize("asked", [0.001, 0.005, 0.01, 0.1, 0.25, 0.5, 0.75, 0.8, 0.99, 1.0])
def test_an_exact_splitter_is_as_asked_after_about_sixteen_requests_a_slice(asked: float):
    assert judge_share(Tally(), asked) is Share.UNPROVEN
    total = 20 / asked
    assert judge_share(Tally(asked * total, total), asked) is Share.AS_ASKED
    assert judge_share(Tally(asked * total * 1000, total * 1000), asked) is Share.AS_ASKED


@pytest.mark.parametrize(("ratio", "finding"), [(2.0, Share.OVER), (0.5, Share.UNDER), (0.0, Share.UNDER)])
def test_double_half_and_nothing_are_found(ratio: float, finding: Share):
    total = 30_000
    assert judge_share(Tally(ratio * 0.01 * total, total), 0.01) is finding


def test_no_hit_at_all_is_under_exposure_after_fourteen_slices_of_requests():
    asked = 0.01
    assert judge_share(Tally(0, 13.5 / asked), asked) is not Share.UNDER
    assert judge_share(Tally(0, 15.5 / asked), asked) is Share.UNDER


def test_an_accepted_coverage_makes_the_shortfall_the_new_measure():
    tally = Tally(0.005 * 30_000, 30_000)
    assert judge_share(tally, 0.01) is Share.UNDER
    assert judge_share(tally, 0.01 * 0.5) is Share.AS_ASKED


@given(
    asked=st.floats(0.0001, 1.0),
    looks=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5000)), max_size=20),
)
def test_every_tally_has_an_answer_and_the_grouping_of_looks_does_not_matter(
    asked: float, looks: list[tuple[int, int]]
):
    tally = Tally()
    for hits, others in looks:
        tally = tally.add(hits, hits + others)
    whole = Tally().add(sum(hits for hits, _ in looks), sum(hits + others for hits, others in looks))
    assert tally == whole
    assert judge_share(tally, asked) in {Share.AS_ASKED, Share.UNPROVEN, Share.OVER, Share.UNDER}


def test_an_over_exposed_slice_is_never_called_under_and_the_reverse():
    asked = 0.05
    for total in range(0, 4000, 40):
        assert judge_share(Tally(asked * 1.2 * total, total), asked) not in {Share.UNDER, Share.OVER}
        assert judge_share(Tally(asked * 3 * total, total), asked) is not Share.UNDER
        assert judge_share(Tally(asked / 3 * total, total), asked) is not Share.OVER


def test_thousands_of_looks_at_an_obedient_random_splitter_raise_no_alarm():
    seed = 7
    chance = random.Random(seed)
    for run in range(60):
        tally = Tally()
        for _ in range(200):
            hits = sum(chance.random() < 0.02 for _ in range(50))
            tally = tally.add(hits, 50)
            finding = judge_share(tally, 0.02)
            assert finding in {Share.AS_ASKED, Share.UNPROVEN}, f"seed {seed}, run {run}, {tally}"
        assert judge_share(tally, 0.02) is Share.AS_ASKED, f"seed {seed}, run {run}"


def test_zero_is_verified_by_requests_that_could_have_come_and_did_not():
    assert judge_zero(Tally(0, 0), 0.01) is Share.UNPROVEN
    assert judge_zero(Tally(0, 450), 0.01) is Share.UNPROVEN
    assert judge_zero(Tally(0, 470), 0.01) is Share.NONE_LEFT
    assert judge_zero(Tally(1, 100_000), 0.01) is Share.OVER
    assert judge_zero(Tally(0, 2), 1.0) is Share.NONE_LEFT
