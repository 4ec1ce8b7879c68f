"""Which endpoints of a port this node uses: the table of the peer's rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model.portal import Family, Missing, Portal, PortalName, Protocol
from proxy.model.slices import Place
from proxy.model.topology import Preference, choose, preference

OUTSIDE = {"node_port": 30000}


def portal(**fields: Any) -> Portal:
    name = PortalName("default", "web", "", "TCP")
    return Portal(name, Family.V4, Protocol.TCP, "10.0.0.1", 80, **fields)


def places(*each: Place) -> dict[tuple[str, int], Place]:
    return {(one.ip, 80): one for one in each}


def ready(ip: str, **fields: Any) -> Place:
    return Place(ip, **fields)


def ending(ip: str, **fields: Any) -> Place:
    return Place(ip, ready=False, serving=True, terminating=True, **fields)


def dead(ip: str, **fields: Any) -> Place:
    return Place(ip, ready=False, serving=False, terminating=True, **fields)


def starting(ip: str, **fields: Any) -> Place:
    return Place(ip, ready=False, serving=False, **fields)


HERE = {"is_local": True}


@pytest.mark.parametrize(
    ("fields", "given_places", "cluster", "local", "usable"),
    [
        pytest.param({}, [ready("a"), ready("b", **HERE)], "ab", "", True, id="ready ones"),
        pytest.param({}, [ready("a"), ending("b"), starting("c")], "a", "", True,
                     id="terminating ones only if nothing is ready"),
        pytest.param({}, [ending("b"), dead("c"), starting("d")], "b", "", True,
                     id="fallback to serving terminating ones"),
        pytest.param({}, [dead("c"), starting("d")], "", "", False, id="nothing usable"),
        pytest.param({"internal_local": True}, [ready("a"), ready("b", **HERE)], "", "b", True,
                     id="internal Local"),
        pytest.param({"internal_local": True}, [ready("a")], "", "", True,
                     id="internal Local without any here"),
        pytest.param({"internal_local": True} | OUTSIDE, [ready("a"), ready("b", **HERE)], "ab",
                     "b", True, id="internal Local, and reachable from outside"),
        pytest.param({"external_local": True} | OUTSIDE, [ready("a"), ending("b", **HERE)], "a",
                     "b", True, id="external Local falls back on its own"),
        pytest.param({"external_local": True} | OUTSIDE, [ready("a", **HERE), ending("b", **HERE)],
                     "a", "a", True, id="external Local with a ready one"),
        pytest.param({"external_local": True}, [ready("a", **HERE)], "a", "", True,
                     id="external Local without a way in"),
        pytest.param({"external_local": True} | OUTSIDE, [dead("b", **HERE), ready("a")], "a", "",
                     True, id="dead ones are not local endpoints"),
    ],
)  # fmt: skip
def test_policies(
    fields: Any, given_places: list[Place], cluster: str, local: str, usable: bool
) -> None:
    found = choose(portal(**fields), places(*given_places), "")
    assert "".join(each.ip for each in found.cluster_endpoints) == cluster
    assert "".join(each.ip for each in found.local_endpoints) == local
    assert found.has_endpoints is usable


@pytest.mark.parametrize(
    ("fields", "internal", "external"),
    [
        ({}, None, None),
        ({"internal_local": True} | OUTSIDE, Missing.LOCAL, None),
        ({"external_local": True} | OUTSIDE, None, Missing.LOCAL),
    ],
)
def test_what_clients_get_of_endpoints_elsewhere(
    fields: Any, internal: Missing | None, external: Missing | None
) -> None:
    found = choose(portal(**fields), places(ready("a")), "")
    assert (found.internal_missing, found.external_missing) == (internal, external)


A, B = {"zones": ("a",)}, {"zones": ("b",)}
ME, OTHER = {"for_this_node": True}, {"for_this_node": False}


@pytest.mark.parametrize(
    ("given_places", "zone", "expected"),
    [
        ([], "a", Preference.NONE),
        ([ready("1", **A), ready("2", **B)], "a", Preference.SAME_ZONE),
        ([ready("1", **A), ready("2", **B)], "c", Preference.NONE),
        ([ready("1", **A), ready("2", **B)], "", Preference.NONE),
        ([ready("1", **A), ready("2")], "a", Preference.NONE),
        ([ready("1", **A), ending("2")], "a", Preference.SAME_ZONE),
        ([ending("1", **A)], "a", Preference.NONE),
        ([ready("1", **ME), ready("2", **OTHER)], "", Preference.SAME_NODE),
        ([ready("1", **ME), ready("2")], "", Preference.NONE),
        ([ready("1", **OTHER, **A)], "a", Preference.SAME_ZONE),
        ([ready("1", **ME, **A), ready("2", **A)], "a", Preference.SAME_ZONE),
        ([ready("1", **OTHER)], "a", Preference.NONE),
    ],
)
def test_whose_hints_count(given_places: list[Place], zone: str, expected: Preference) -> None:
    assert preference(given_places, zone) is expected


def test_hints_do_not_count_for_the_policy_local() -> None:
    found = choose(
        portal(external_local=True, **OUTSIDE),
        places(ready("1", **A), ready("2", is_local=True, **B)), "a",
    )  # fmt: skip
    assert [each.ip for each in found.cluster_endpoints] == ["1"]
    assert [each.ip for each in found.local_endpoints] == ["2"]
    assert [each.ip for each in found.all_endpoints] == ["1", "2"]


_PLACES = st.builds(
    Place, st.sampled_from("abcdefgh"), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from([None, ("x",), ("y",), ("x", "y")]), st.sampled_from([None, True, False]),
)  # fmt: skip


@given(st.lists(_PLACES), st.sampled_from(["", "x", "y"]), st.booleans(), st.booleans())
def test_invariants(given_places: list[Place], zone: str, internal: bool, external: bool) -> None:
    """Whatever hints say: if something is ready it is used, and nothing else is."""
    known = places(*given_places)
    found = choose(portal(internal_local=internal, external_local=external, **OUTSIDE), known, zone)
    used = [known[each.ip, each.port] for each in found.cluster_endpoints]
    if any(each.ready for each in known.values()):
        assert used
        assert all(each.ready for each in used)
    else:
        assert all(each.fallback for each in used)
        assert len(used) == sum(each.fallback for each in known.values())
    local = [known[each.ip, each.port] for each in found.local_endpoints]
    assert all(each.is_local for each in local)
    if internal or external:
        here = [each for each in known.values() if each.is_local]
        wanted = [each for each in here if each.ready] or [each for each in here if each.fallback]
        assert len(local) == len(wanted)
    assert found.has_endpoints == bool(used)
    assert list(found.cluster_endpoints) == sorted(found.cluster_endpoints)
