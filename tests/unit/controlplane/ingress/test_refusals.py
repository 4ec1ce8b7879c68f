"""Finding the Ingresses that nginx refuses."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.ingress.merging import merged
from controlplane.ingress.model import Site
from controlplane.ingress.refusals import MOST_TRIALS, Refusals

from .objects import ingress, rule, world

WORLD = world()


def some(count: int) -> list[dict[str, Any]]:
    return [ingress(f"i{number}", rule(f"h{number}.test", Prefix_="s")) for number in range(count)]


class Picky:
    """Refuses sites with a host of some numbers."""

    def __init__(self, *bad: int) -> None:
        self.bad = {f"h{number}.test" for number in bad}
        self.asked = 0

    async def refusal(self, site: Site) -> str:
        self.asked += 1
        found = sorted(self.bad & {host.name for host in site.hosts})
        return f"not {found[0]}" if found else ""


@pytest.mark.parametrize(
    ("count", "bad"),
    [(1, (0,)), (2, (1,)), (7, (0, 6)), (50, (7, 31)), (100, (3, 4, 80)), (5, (0, 1, 2, 3, 4))],
)
async def test_those_and_no_others_are_found(count: int, bad: tuple[int, ...]) -> None:
    all_, picky = some(count), Picky(*bad)
    refusals = Refusals(picky.refusal)
    await refusals.find(all_, WORLD)
    told = {(one.ingress, one.reason, one.message) for one in refusals.problems()}
    assert told == {(f"default/i{each}", "Rejected", f"not h{each}.test") for each in bad}
    left = refusals.without(all_, WORLD)
    assert not await picky.refusal(merged(left, WORLD)[0])
    assert len(left) == count - len(bad)


async def test_one_that_changes_is_tried_again() -> None:
    all_ = some(3)
    refusals = Refusals(Picky(1).refusal)
    await refusals.find(all_, WORLD)
    assert len(refusals.without(all_, WORLD)) == 2
    all_[1] = ingress("i1", rule("other.test", Prefix_="s"))
    assert len(refusals.without(all_, WORLD)) == 3
    assert not refusals.problems()


async def test_trials_are_bounded() -> None:
    picky = Picky(*range(300))
    refusals = Refusals(picky.refusal)
    await refusals.find(some(300), WORLD)
    assert picky.asked <= MOST_TRIALS
    assert len(refusals.problems()) == 300
