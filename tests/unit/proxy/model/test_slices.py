"""What an EndpointSlice says, good and bad, and how slices become one set."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from proxy.model.portal import Family
from proxy.model.slices import Place, Slice, SliceReader, merged, service_of
from tests.unit.proxy.fakes import endpoint, endpoint_slice

V4 = Family.V4


def read(*endpoints: dict[str, Any], **fields: Any) -> Slice:
    found = SliceReader("here").read(endpoint_slice(*endpoints, **fields))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Place("10.1.0.1")),
        ({"nodeName": "here"}, Place("10.1.0.1", is_local=True)),
        ({"conditions": {"ready": False}}, Place("10.1.0.1", ready=False)),
        ({"conditions": {"ready": None, "serving": None}}, Place("10.1.0.1")),
        ({"conditions": {"ready": False, "serving": True, "terminating": True}},
         Place("10.1.0.1", ready=False, terminating=True)),
        ({"conditions": {"ready": False, "serving": False}},
         Place("10.1.0.1", ready=False, serving=False)),
        ({"hints": {"forZones": [{"name": "b"}, {"name": "a"}]}},
         Place("10.1.0.1", zones=("a", "b"))),
        ({"hints": {"forNodes": [{"name": "here"}]}}, Place("10.1.0.1", for_this_node=True)),
        ({"hints": {"forNodes": [{"name": "there"}]}}, Place("10.1.0.1", for_this_node=False)),
        ({"hints": {"forZones": [], "forNodes": []}}, Place("10.1.0.1")),
    ],
)  # fmt: skip
def test_an_endpoint(fields: dict[str, Any], expected: Place) -> None:
    assert read(endpoint("10.1.0.1", **fields)).places == (expected,)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"addresses": []}, "endpoints[0]: without an address"),
        ({"addresses": ["nonsense"]}, "'nonsense' is no IP address"),
        ({"addresses": ["fd00::1"]}, "fd00::1 in a slice of IPv4"),
        ({"addresses": ["127.0.0.1"]}, "127.0.0.1 is a loopback address"),
    ],
)
def test_bad_endpoints_are_left_out(fields: dict[str, Any], problem: str) -> None:
    found = read({**fields}, endpoint("10.1.0.2"))
    assert [place.ip for place in found.places] == ["10.1.0.2"]
    assert len(found.problems) == 1
    assert problem in found.problems[0]


def test_bad_ports_are_left_out() -> None:
    ports = [
        {"port": 1}, {"name": "a"}, {"name": "b", "port": 0}, {"name": "c", "port": 70000},
        {"name": "d", "port": 5, "protocol": "UDP"}, {"name": "d", "port": 5, "protocol": "UDP"},
    ]  # fmt: skip
    found = read(endpoint("10.1.0.1"), ports=ports)
    assert dict(found.ports) == {("d", "UDP"): (5,)}
    assert len(found.problems) == 4


def test_many_problems_are_counted() -> None:
    found = read(*[endpoint("bad")] * 900)
    assert len(found.problems) == 11
    assert found.problems[-1] == "and 890 more"


@pytest.mark.parametrize("kind", ["FQDN", "", "IPv5"])
def test_other_kinds_of_addresses_are_no_endpoints(kind: str) -> None:
    assert SliceReader("").read(endpoint_slice(endpoint("example.org"), kind=kind)) is None


def test_without_a_node_name_nothing_is_local() -> None:
    one = SliceReader("").read(endpoint_slice(endpoint("10.1.0.1", nodeName="")))
    assert one is not None
    assert not one.places[0].is_local


def test_a_slice_without_a_service_belongs_to_none() -> None:
    assert service_of(endpoint_slice(metadata={"labels": None})) is None
    assert service_of(endpoint_slice(service_name="")) is None
    assert service_of(endpoint_slice()) == ("default", "web")


def test_equal_sets_of_ports_are_kept_once() -> None:
    reader = SliceReader("")
    first, second = (
        reader.read(endpoint_slice(endpoint("10.1.0.1"), name=name)) for name in ("a", "b")
    )
    assert first is not None
    assert second is not None
    assert first.ports is second.ports


READY = endpoint("10.1.0.1")
ENDING = endpoint("10.1.0.1", conditions={"ready": False, "serving": True, "terminating": True})
NOT_READY = endpoint("10.1.0.1", conditions={"ready": False})


@pytest.mark.parametrize(
    "states", list(itertools.permutations([READY, ENDING, NOT_READY])), ids=str
)
def test_of_an_endpoint_in_several_slices_the_one_that_lives_counts(states: Any) -> None:
    found = merged([read(state) for state in states], V4, "", "TCP")
    assert found == {("10.1.0.1", 8080): Place("10.1.0.1")}


def test_named_ports_differ_between_slices() -> None:
    one = read(endpoint("10.1.0.1"), ports=[{"name": "web", "port": 80}])
    two = read(
        endpoint("10.1.0.2"), ports=[{"name": "web", "port": 8080}, {"name": "x", "port": 1}]
    )
    other = read(endpoint("fd00::1"), kind="IPv6", ports=[{"name": "web", "port": 80}])
    assert sorted(merged([one, two, other], V4, "web", "TCP")) == [
        ("10.1.0.1", 80), ("10.1.0.2", 8080),
    ]  # fmt: skip
    assert merged([one], V4, "web", "UDP") == {}


def test_thousands_of_ports_cost_what_is_asked_for() -> None:
    """The API lets 20,000 ports of 1,000 endpoints pass; a Service names few of them."""
    ports = [{"name": f"p{n}", "port": n + 1} for n in range(20_000)]
    one = read(*[endpoint(f"10.1.{n // 250}.{n % 250 + 1}") for n in range(1000)], ports=ports)
    begun = time.process_time()
    for number in range(100):
        assert len(merged([one], V4, f"p{number}", "TCP")) == 1000
    assert time.process_time() - begun < 5
