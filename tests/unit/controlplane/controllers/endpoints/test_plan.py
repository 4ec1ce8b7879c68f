from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers.endpoints.plan import subsets_of, truncated, wanted
from controlplane.controllers.serviceendpoints.subsets import are_same, repack
from tests.support.services import pod, service

GOING: dict[str, Any] = {"metadata": {"deletionTimestamp": "2026-01-01T00:02:00Z"}}
HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}


def shown(subsets: list[dict[str, Any]]) -> list[tuple[list[str], list[str], list[int]]]:
    return [
        ([one["ip"] for one in each.get("addresses", ())],
         [one["ip"] for one in each.get("notReadyAddresses", ())],
         [one["port"] for one in each.get("ports", ())])
        for each in subsets
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "pods", "found"),
    [
        ({}, [], []),
        ({}, [pod(1), pod(2, ready=False)], [(["10.0.0.2"], ["10.0.0.3"], [8080])]),
        ({}, [pod(1), pod(2, **GOING)], [(["10.0.0.2"], [], [8080])]),
        ({"publishNotReadyAddresses": True}, [pod(1, ready=False), pod(2, **GOING)],
         [(["10.0.0.2", "10.0.0.3"], [], [8080])]),
        ({"ports": [], "clusterIP": "None"}, [pod(1)], [(["10.0.0.2"], [], [])]),
        ({"ports": []}, [pod(1)], []),
        ({"ipFamilies": ["IPv6"]}, [pod(1)], []),
        ({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}, [pod(2), pod(1)],
         [(["10.0.0.2", "10.0.0.3"], [], [1, 2])]),
        ({"ports": [{"name": "a", "port": 1, "targetPort": "nobody"}]}, [pod(1)], []),
    ],
)  # fmt: skip
def test_subsets(
    spec: dict[str, Any], pods: list[dict[str, Any]], found: list[tuple[Any, ...]]
) -> None:
    assert shown(subsets_of(service(**spec), pods)) == found


def test_an_address_says_whose_it_is() -> None:
    one = pod(1, spec={"hostname": "h", "subdomain": "web"})
    assert subsets_of(service(), [one]) == [{
        "addresses": [{
            "ip": "10.0.0.2", "nodeName": "n1", "hostname": "h",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "u1"},
        }],
        "ports": [HTTP],
    }]  # fmt: skip


def test_subsets_are_the_same_whatever_their_layout() -> None:
    a, b = {"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}
    x, y = {"port": 1}, {"port": 2}
    apart = [{"addresses": [a], "ports": [y, x]}, {"addresses": [b], "ports": [x, y]}]
    joined = [{"addresses": [b, a], "ports": [x, y]}]
    assert are_same(apart, joined)
    assert repack(apart) == [{"addresses": [a, b], "ports": [x, y]}]
    assert not are_same(apart, [{"addresses": [a], "ports": [x, y]}])
    # What is ready and not ready is not ready.
    both = [{"addresses": [a], "notReadyAddresses": [a], "ports": [x]}]
    assert repack(both) == [{"notReadyAddresses": [a], "ports": [x]}]


def test_the_version_of_a_pod_does_not_count() -> None:
    def subset(version: str) -> list[dict[str, Any]]:
        target = {"uid": "u", "resourceVersion": version}
        return [{"addresses": [{"ip": "1.1.1.1", "targetRef": target}]}]

    assert are_same(subset("1"), subset("2"))


@pytest.mark.parametrize(
    ("groups", "kept", "over"),
    [
        ([(4, 6)], [(4, 6)], False),
        ([(8, 8)], [(8, 2)], True),
        ([(12, 5)], [(10, 0)], True),
        ([(6, 0), (6, 0)], [(5, 0), (5, 0)], True),
        ([(2, 9), (2, 3)], [(2, 5), (2, 1)], True),
        ([(20, 0), (0, 4)], [(10, 0)], True),
    ],
)
def test_no_more_addresses_than_fit(
    groups: list[tuple[int, int]], kept: list[tuple[int, int]], over: bool
) -> None:
    subsets = [
        {"addresses": [{"ip": f"r{number}"} for number in range(ready)],
         "notReadyAddresses": [{"ip": f"n{number}"} for number in range(waiting)]}
        for ready, waiting in groups
    ]  # fmt: skip
    found, is_over = truncated(subsets, 10)
    assert is_over is over
    assert [(len(one.get("addresses", ())), len(one.get("notReadyAddresses", ())))
            for one in found] == kept  # fmt: skip


def test_endpoints_are_written_only_if_something_changed() -> None:
    pods = [pod(1), pod(2, ready=False)]
    one = service(metadata={"labels": {"tier": "front"}})
    made = wanted(one, pods, None, "2026-01-01T00:00:00Z")
    assert made is not None
    assert made["metadata"]["labels"] == {
        "tier": "front", "endpoints.kubernetes.io/managed-by": "endpoint-controller",
    }  # fmt: skip
    time = "endpoints.kubernetes.io/last-change-trigger-time"
    assert made["metadata"]["annotations"] == {time: "2026-01-01T00:00:00Z"}
    assert wanted(one, pods[::-1], made, "2026-01-01T00:00:09Z") is None
    made["metadata"]["annotations"]["mine"] = "x"
    changed = wanted(one, [pod(1)], made, "")
    assert changed is not None
    assert changed["metadata"]["annotations"] == {"mine": "x"}
    assert wanted(service(), pods, made, "") is not None
    headless = wanted(service(clusterIP="None"), pods, made, "")
    assert headless is not None
    assert headless["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_too_many_addresses_are_told_of_and_written_once() -> None:
    pods = [pod(number) for number in range(1001)]
    made = wanted(service(), pods, None, "")
    assert made is not None
    assert made["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
    assert len(made["subsets"][0]["addresses"]) == 1000
    assert wanted(service(), pods, made, "") is None
    fewer = wanted(service(), pods[:1000], made, "")
    assert fewer is not None
    assert fewer["metadata"]["annotations"] == {}
