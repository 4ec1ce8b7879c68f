"""One of many is taken evenly, soon, and one that comes or goes changes little."""

from __future__ import annotations

import pytest

from proxy.iptables import names
from proxy.iptables.choice import GROUP, choice

from .interpreter import Packet, Rules

CHAIN = names.CLUSTER + "A" * 16


def targets(number: int) -> list[tuple[str, str]]:
    return [("-p tcp", f"-j DNAT --to-destination 10.1.{n >> 8}.{n & 255}") for n in range(number)]


@pytest.mark.parametrize("number", [1, 2, 3, GROUP, GROUP + 1, 100, 1000])
def test_each_is_taken_as_often_as_any(number: int) -> None:
    chains = choice(CHAIN, targets(number))
    lines = ["*nat", *(f":{chain} - [0:0]" for chain in chains)]
    lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
    fate = Rules("\n".join(lines)).walk("nat", CHAIN, Packet("10.9.9.9", "10.96.0.1", "tcp", 80))
    assert len(fate) == number
    # Chances have 31 bits.
    assert list(fate.values()) == pytest.approx([1 / number] * number, rel=1e-4)
    assert all(len(chain) <= names.MAX_LENGTH for chain in chains)


def test_names_have_room_for_the_groups_of_any_number() -> None:
    chains = choice(CHAIN, targets(9000))
    assert len(chains) == 257
    assert all(len(chain) <= names.MAX_LENGTH for chain in chains)


def test_of_a_thousand_few_are_looked_at() -> None:
    chains = choice(CHAIN, targets(1000))
    assert len(chains[CHAIN]) + max(map(len, chains.values())) <= 3 * GROUP


def test_one_that_goes_changes_its_group_and_the_list_of_groups() -> None:
    before, after = choice(CHAIN, targets(1000)), choice(CHAIN, targets(999))
    assert before.keys() == after.keys()
    changed = {chain for chain in before if before[chain] != after[chain]}
    assert CHAIN in changed
    assert len(changed) == 2
