"""From what there is to what is to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from proxy.podnetwork.difference import Difference, difference
from proxy.podnetwork.entries import OVERLAY, Device, Entries, Hop, RouteKey
from tests.support.circumstances import examples

DEVICE = Device(88, 8472, b"\1\1\1\1", b"\2" * 6, 1450)
KEY, OTHER = RouteKey(b"\x0a\0\1\0", 24, 0), RouteKey(b"\x0a\0\2\0", 24, 0)
FULL = Entries(
    DEVICE, frozenset({b"\x0a\0\0\0"}),
    {KEY: Hop(b"\x0a\0\1\0", OVERLAY), OTHER: Hop(b"\1\1\1\2", 2)},
    {b"\x0a\0\1\0": b"\3" * 6}, {b"\3" * 6: b"\1\1\1\3"},
)  # fmt: skip


def test_nothing_is_to_be_done_where_all_is_there() -> None:
    assert not difference(FULL, FULL)
    assert not difference(Entries(), Entries())


def test_all_from_nothing_and_back() -> None:
    made = difference(FULL, Entries())
    assert made.device == DEVICE
    assert not made.anew
    assert (len(made.routes), len(made.neighbours), len(made.forwarding)) == (2, 1, 1)
    gone = difference(Entries(), FULL)
    assert gone.old_device
    # What is on the device goes with it.
    assert list(gone.old_routes) == [OTHER]
    assert not gone.old_neighbours
    assert not gone.old_forwarding
    assert not gone.old_addresses


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"mtu": 1400}, False),
        ({"local": b"\1\1\1\7"}, False),
        ({"local": b""}, True),
        ({"vni": 7}, True),
        ({"port": 4789}, True),
        ({"mac": b"\7" * 6}, True),
        ({"ipv6": True, "local": b"\1" * 16}, True),
    ],
)
def test_a_device_that_is_made_anew_is_filled_anew(change: dict[str, object], anew: bool) -> None:
    made = difference(replace(FULL, device=replace(DEVICE, **change)), FULL)  # type: ignore[arg-type]
    assert made.device is not None
    assert made.anew == anew
    assert set(made.routes) == ({KEY} if anew else set())
    assert bool(made.neighbours) == bool(made.forwarding) == bool(made.addresses) == anew


_KEYS = st.builds(RouteKey, st.binary(min_size=4, max_size=4), st.integers(8, 32), st.just(0))
_HOPS = st.builds(Hop, st.binary(min_size=4, max_size=4), st.integers(0, 3))
_BYTES = st.binary(min_size=4, max_size=4)
_ENTRIES = st.builds(
    Entries, st.sampled_from([None, DEVICE]), st.frozensets(_BYTES, max_size=3),
    st.dictionaries(_KEYS, _HOPS, max_size=4), st.dictionaries(_BYTES, _BYTES, max_size=3),
    st.dictionaries(_BYTES, _BYTES, max_size=3),
)  # fmt: skip


@limits(max_examples=examples(100), deadline=None)
@given(_ENTRIES, _ENTRIES)
def test_what_is_done_leads_to_what_is_wanted(wanted: Entries, there: Entries) -> None:
    if wanted.device is None:
        on = {k: h for k, h in wanted.routes.items() if h.link}
        wanted = Entries(routes=on)
    made = difference(wanted, there)
    assert _after(there, made) == wanted


def _after(there: Entries, made: Difference) -> Entries:
    """Return what a kernel has afterwards."""
    state = Entries(
        there.device, there.addresses, dict(there.routes), dict(there.neighbours),
        dict(there.forwarding),
    )  # fmt: skip
    if made.anew or made.old_device:
        state = Entries(routes={k: h for k, h in state.routes.items() if h.link})
    state.device = made.device or state.device
    state.addresses = (state.addresses | set(made.addresses)) - set(made.old_addresses)
    state.routes |= made.routes
    state.neighbours |= made.neighbours
    state.forwarding |= made.forwarding
    for key in made.old_routes:
        del state.routes[key]
    for each in made.old_neighbours:
        del state.neighbours[each]
    for each in made.old_forwarding:
        del state.forwarding[each]
    return state
