"""Every incident of the demo ends with its record printed, and with the chain verified."""

import re

import pytest

from canary.lab.demo.play import main
from canary.settings import DemoOptions, Story

ENDS = {
    Story.MARCH_5: "RollBack",
    Story.MARCH_2: "RollBack",
    Story.HEALTHY: "Promote",
    Story.DECEMBER: "Abort",
}
AT_ONCE = 100_000.0


@pytest.mark.parametrize("story", ENDS)
def test_an_incident_ends_with_its_record_and_a_chain_that_holds(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    staged = story is Story.DECEMBER
    options = DemoOptions(
        story=story, headless=True, speed=None if staged else AT_ONCE, orders_per_second=100.0
    )
    assert main(options) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("on record: ")]
    assert len(said) == 1
    record = rf"on record: (\d+) {ENDS[story]} shop/checkout v\S+.*"
    number = re.fullmatch(rf"{record}; the chain of (\d+) holds, head (\d+):[0-9a-f]+\.\.\.", said[0])
    assert number is not None, said
    assert number[1] == number[2] == number[3]
