"""Objects that no control plane should hold, commands that fail: what was good stays good."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.proxylab.clients import Answer, ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import LOCAL, REMOTE, Json, Port, service, slices
from tests.support.proxylab.proxies import Proxy, deadline
from tests.support.proxylab.topology import FAMILIES

from .services import ingress

pytestmark = pytest.mark.root


def asked(lab: Lab, thing: Json, port: int = 80) -> list[Answer]:
    """Return what a pod gets at the cluster IPs."""
    addresses = thing["spec"]["clusterIPs"]
    return [asyncio.run(ask(lab.hosts["pod"], each, port, patience=3)) for each in addresses]


def of(answers: list[Answer]) -> set[str]:
    return {answer.who for answer in answers}


def _endpoints(change: Callable[[Json], Any]) -> Callable[[list[Json]], None]:
    def apply(made: list[Json]) -> None:
        for each in made:
            for endpoint in each["endpoints"][1:]:
                change(endpoint)

    return apply


def _extra(**fields: Any) -> Callable[[list[Json]], None]:
    def apply(made: list[Json]) -> None:
        for each in made:
            each.update(copy.deepcopy(fields))

    return apply


def _addresses(*addresses: str) -> Callable[[list[Json]], None]:
    return _endpoints(lambda endpoint: endpoint.update(addresses=list(addresses)))


def _twice(made: list[Json]) -> None:
    for each in made:
        each["endpoints"] = [each["endpoints"][0]] * 3


def _other_family(made: list[Json]) -> None:
    for each in made:
        other = LOCAL[1].address(6 if each["addressType"] == "IPv4" else 4)
        each["endpoints"][1]["addresses"] = [other]


def _leading_zeros(made: list[Json]) -> None:
    """As old objects have it; decimal all the same, so the endpoint is a good one."""
    for each in made:
        if each["addressType"] == "IPv4":
            numbers = LOCAL[1].address(4).split(".")
            each["endpoints"][1]["addresses"] = [".".join(part.zfill(3) for part in numbers)]


def _ports(*ports: Json) -> Callable[[list[Json]], None]:
    def apply(made: list[Json]) -> None:
        for each in made:
            each["ports"] = [*each["ports"], *ports]

    return apply


# What is wrong with the slices of a Service whose first endpoint is a good one.
BAD_SLICES: dict[str, Callable[[list[Json]], None]] = {
    "no address at all": _addresses(),
    "no address but a word": _addresses("no-address"),
    "a host name": _addresses("example.org"),
    "rules in an address": _addresses("10.0.0.1 -j ACCEPT\nCOMMIT"),
    "a network": _addresses("10.0.0.0/8"),
    "five numbers": _addresses("10.0.0.0.1"),
    "the other family": _other_family,
    # 010.1.1.1 alone is 10.1.1.1, as in the peer: old objects have such addresses.
    "leading zeros and too large": _addresses("010.001.001.256"),
    "leading zeros": _leading_zeros,
    "duplicates": _twice,
    "no conditions": _endpoints(
        lambda endpoint: (endpoint.pop("conditions"), endpoint.update(addresses=["bad"]))
    ),
    "a port out of range": _ports({"name": "x", "port": 70000, "protocol": "TCP"}),
    "a negative port": _ports({"name": "x", "port": -1, "protocol": "TCP"}),
    "a port without a number": _ports({"name": "x", "protocol": "TCP"}),
    "an unknown protocol": _ports({"name": "x", "port": 1, "protocol": "ICMP"}),
    "a thousand ports": _ports(
        *({"name": f"p{number}", "port": number, "protocol": "TCP"} for number in range(1, 1001))
    ),
}


def test_bad_slices_spoil_nothing(lab: Lab, proxied: Proxy) -> None:
    good = service("good")
    bad = {
        title: service(f"bad-{number}", number=160 + number)
        for number, title in enumerate(BAD_SLICES)
    }
    objects: list[Json] = [good, *slices("good", LOCAL[:1])]
    for number, (title, spoil) in enumerate(BAD_SLICES.items()):
        made = slices(f"bad-{number}", LOCAL[:2])
        spoil(made)
        objects += [bad[title], *made]
    strange = slices("good", LOCAL[1:2], part="-strange")
    strange[0]["addressType"] = "FQDN"
    strange[1]["addressType"] = "IPv4"  # with addresses of IPv6
    lab.api.put(*objects, *strange)
    lab.settle()
    assert of(asked(lab, good)) == {LOCAL[0].answers(f) for f in FAMILIES}
    known = {each.answers(family) for family in FAMILIES for each in LOCAL[:2]}
    wrong = {
        title: answers
        for title, thing in bad.items()
        if not of(answers := asked(lab, thing)) <= known
    }
    assert not wrong
    assert proxied.alive()
    lab.api.delete(*objects[2:], *strange)


def test_services_that_share_an_address_and_port(lab: Lab, proxied: Proxy) -> None:
    first = service("twin-a", number=180, ingress=ingress(120))
    second = service("twin-b", number=181, ingress=ingress(120))
    clone = service("twin-c", number=180)
    other = service("not-a-twin", number=182)
    lab.change(
        first, *slices("twin-a", LOCAL[:1]), second, *slices("twin-b", REMOTE[:1]),
        clone, *slices("twin-c", LOCAL[2:3]), other, *slices("not-a-twin", LOCAL[3:4]),
    )  # fmt: skip
    either = {LOCAL[0].answers(4), REMOTE[0].answers(4), LOCAL[2].answers(4)}
    assert asked(lab, second)[0].who == REMOTE[0].answers(4)
    assert asked(lab, other)[0].who == LOCAL[3].answers(4)
    assert asked(lab, first)[0].who in either
    # When all but one are gone, it is that one's.
    lab.api.delete(second, clone)
    lab.change(other)
    with deadline(8, "the address is the one's that is left") as turn:
        while (answer := asked(lab, first)[0].who) != LOCAL[0].answers(4):
            turn(answer)
    lab.api.delete(first, other)
    lab.settle()


def test_thousands_of_ports(lab: Lab, proxied: Proxy) -> None:
    ports = [Port(1000 + number, name=f"p{number}") for number in range(1000)]
    many = service("many-ports", ports, number=185)
    lab.change(many, *slices("many-ports", LOCAL[:2], ports))
    for port in (1000, 1500, 1999):
        assert all(answer.source for answer in asked(lab, many, port)), port
    lab.api.delete(many)
    lab.settle()
