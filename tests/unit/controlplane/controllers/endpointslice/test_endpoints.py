from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers.endpointslice.endpoints import (
    endpoint_of,
    identity,
    is_same,
    ports_key,
    ports_of,
)
from controlplane.controllers.serviceendpoints.pods import canonical, may_be_endpoint
from tests.support.services import pod, service

GOING = {"metadata": {"deletionTimestamp": "2026-01-01T00:02:00Z"}}


@pytest.mark.parametrize(
    ("ready", "more", "published", "conditions"),
    [
        (True, {}, False, (True, True, False)),
        (False, {}, False, (False, False, False)),
        (False, {}, True, (True, False, False)),
        (True, GOING, False, (False, True, True)),
        (False, GOING, False, (False, False, True)),
        (True, GOING, True, (True, True, True)),
    ],
)
def test_conditions(
    ready: bool, more: dict[str, Any], published: bool, conditions: tuple[bool, bool, bool]
) -> None:
    made = endpoint_of(
        pod(ready=ready, **more), "", service(publishNotReadyAddresses=published), "IPv4"
    )
    assert made is not None
    names = ("ready", "serving", "terminating")
    assert made["conditions"] == dict(zip(names, conditions, strict=True))


def test_an_endpoint_says_where_the_pod_is() -> None:
    one = pod(7, spec={"hostname": "seven", "subdomain": "web"})
    assert endpoint_of(one, "z1", service(), "IPv4") == {
        "addresses": ["10.0.0.8"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-7", "uid": "u7"},
        "nodeName": "n1",
        "zone": "z1",
        "hostname": "seven",
    }


@pytest.mark.parametrize("spec", [{"hostname": "a"}, {"hostname": "a", "subdomain": "other"},
                                  {"subdomain": "web"}])  # fmt: skip
def test_a_hostname_counts_only_below_the_service(spec: dict[str, str]) -> None:
    made = endpoint_of(pod(spec=spec), "", service(), "IPv4")
    assert made is not None
    assert "hostname" not in made


def test_each_family_has_its_own_address() -> None:
    both = pod(status={"podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::0:9"}]})
    four, six = (endpoint_of(both, "", service(), one) for one in ("IPv4", "IPv6"))
    assert four is not None
    assert six is not None
    assert (four["addresses"], six["addresses"]) == (["10.0.0.9"], ["fd00::9"])
    assert endpoint_of(pod(), "", service(), "IPv6") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1", ("IPv4", "10.0.0.1")),
        ("010.000.0.01", ("IPv4", "10.0.0.1")),
        ("::ffff:10.0.0.1", ("IPv4", "10.0.0.1")),
        ("FD00:0::1", ("IPv6", "fd00::1")),
        ("", None),
        ("10.0.0", None),
        ("10.0.0.256", None),
        ("10.0.0.٣", None),
    ],
)
def test_addresses_in_their_usual_form(text: str, found: tuple[str, str] | None) -> None:
    assert canonical(text) == found


@pytest.mark.parametrize(
    ("more", "terminating", "is_one"),
    [
        ({}, False, True),
        ({"status": {"phase": "Failed"}}, True, False),
        ({"status": {"phase": "Succeeded"}}, True, False),
        ({"status": {"podIP": "", "podIPs": []}}, True, False),
        (GOING, True, True),
        (GOING, False, False),
    ],
)
def test_which_pods_may_be_endpoints(more: dict[str, Any], terminating: bool, is_one: bool) -> None:
    assert may_be_endpoint(pod(**more), terminating=terminating) is is_one


def _port(name: str, number: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"name": name, "containerPort": number, "protocol": protocol}


NAMED = {
    "containers": [{"ports": [_port("dns", 5353)]}, {"ports": [_port("dns", 53, "UDP")]}],
    "initContainers": [
        {"ports": [_port("init", 1)]},
        {"restartPolicy": "Always", "ports": [_port("mesh", 15000)]},
    ],
}


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({"port": 80, "targetPort": 8080}, 8080),
        ({"port": 80}, 80),
        ({"port": 53, "targetPort": "dns"}, 5353),
        ({"port": 53, "targetPort": "dns", "protocol": "UDP"}, 53),
        ({"port": 1, "targetPort": "mesh"}, 15000),
        ({"port": 1, "targetPort": "init"}, None),
        ({"port": 1, "targetPort": "nobody"}, None),
    ],
)
def test_ports_by_number_and_by_name(given: dict[str, Any], number: int | None) -> None:
    found = ports_of(pod(spec=NAMED), service(ports=[{"name": "p", **given}]))
    assert [one["port"] for one in found] == ([] if number is None else [number])


def test_a_port_carries_its_application_protocol() -> None:
    given = [{"port": 80, "targetPort": 1, "appProtocol": "kubernetes.io/h2c"}]
    assert ports_of(pod(), service(ports=given)) == [
        {"name": "", "port": 1, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}
    ]


def test_the_order_of_ports_does_not_count_and_what_they_say_does() -> None:
    a = {"name": "a", "port": 1, "protocol": "TCP"}
    b = {"name": "b", "port": 2, "protocol": "TCP"}
    assert ports_key([a, b]) == ports_key([b, a])
    assert ports_key(None) == ports_key([])
    for name, other in (("name", "c"), ("port", 9), ("protocol", "UDP"), ("appProtocol", "x")):
        assert ports_key([a]) != ports_key([{**a, name: other}])


def test_what_makes_two_endpoints_the_same_and_equal() -> None:
    one = endpoint_of(pod(), "z", service(), "IPv4")
    assert one is not None
    same = {**one, "hints": {"forZones": [{"name": "z"}]},
            "targetRef": {**one["targetRef"], "resourceVersion": "7"}}  # fmt: skip
    assert identity(one) == identity(same)
    assert is_same(one, same)
    for name, value in (("nodeName", "n2"), ("zone", "y"), ("conditions", {"ready": True}),
                        ("targetRef", {**one["targetRef"], "uid": "other"})):  # fmt: skip
        assert identity(one) == identity({**one, name: value})
        assert not is_same(one, {**one, name: value})
