from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.controllers.endpointslice.packing import Changes
from controlplane.controllers.endpointslice.plan import families_of, plan
from tests.support.circumstances import examples
from tests.support.services import pod, service

MODE = "service.kubernetes.io/topology-mode"
ZONES = {"n1": "z1", "n2": "", "n3": "z3"}


def run(
    wanted: dict[str, Any], pods: list[dict[str, Any]], existing: list[dict[str, Any]],
    limit: int = 3, family: str = "IPv4",
) -> tuple[list[dict[str, Any]], Changes]:  # fmt: skip
    """Return the slices as they are after the plan was carried out, and the plan."""
    before = copy.deepcopy(existing)
    made = plan(wanted, pods, existing, family, zone_of=ZONES.get, limit=limit)
    assert existing == before, "objects of an informer are never changed"
    names = {one["metadata"]["name"]: one for one in existing}
    for one in made.delete:
        del names[one["metadata"]["name"]]
    for one in made.update:
        assert one["metadata"]["name"] in names
        assert one["metadata"]["resourceVersion"]
        names[one["metadata"]["name"]] = one
    for one in made.create:
        number = len(names)
        while f"s{number}" in names:
            number += 1
        meta = {
            **one["metadata"],
            "name": f"s{number}",
            "resourceVersion": "1",
            "uid": f"e{number}",
        }
        names[f"s{number}"] = {**one, "metadata": meta}
    return list(names.values()), made


def sizes(slices: list[dict[str, Any]]) -> list[int]:
    return [len(one["endpoints"]) for one in slices]


def counts(made: Changes) -> tuple[int, int, int]:
    return len(made.create), len(made.update), len(made.delete)


def names(slices: list[dict[str, Any]]) -> list[str]:
    return sorted(one["targetRef"]["name"] for each in slices for one in each["endpoints"])


def test_a_service_without_pods_has_one_slice_without_endpoints() -> None:
    slices, made = run(service(), [], [])
    assert counts(made) == (1, 0, 0)
    assert slices[0]["endpoints"] == []
    assert slices[0]["ports"] == []
    assert counts(run(service(), [], slices)[1]) == (0, 0, 0)
    # It becomes the first real one.
    slices, made = run(service(), [pod(1)], slices)
    assert counts(made) == (0, 1, 0)
    assert slices[0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    slices, made = run(service(), [], slices)
    assert counts(made) == (0, 1, 0)
    assert slices[0]["ports"] == []


def test_what_a_new_slice_says_of_its_service() -> None:
    wanted = service(metadata={"labels": {"tier": "front", "kubernetes.io/service-name": "liar"}})
    made = plan(wanted, [pod(1)], [], "IPv4", zone_of=ZONES.get, limit=3).create[0]
    assert made["addressType"] == "IPv4"
    assert made["metadata"] == {
        "namespace": "default",
        "generateName": "web-",
        "labels": {
            "tier": "front", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        },
        "ownerReferences": [{
            "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s1",
            "controller": True, "blockOwnerDeletion": True,
        }],
    }  # fmt: skip


@pytest.mark.parametrize(("address", "headless"), [("None", True), ("10.96.0.1", False)])
def test_slices_of_headless_services_say_so(address: str, headless: bool) -> None:
    slices, _ = run(service(clusterIP=address), [pod(1)], [])
    labels = slices[0]["metadata"]["labels"]
    assert (labels.get("service.kubernetes.io/headless") == "") is headless


def test_a_label_of_the_service_changes_all_its_slices() -> None:
    pods = [pod(number) for number in range(5)]
    slices, _ = run(service(), pods, [])
    renamed = service(metadata={"labels": {"a": "b"}})
    slices, made = run(renamed, pods, slices)
    assert counts(made) == (0, 2, 0)
    assert all(one["metadata"]["labels"]["a"] == "b" for one in slices)
    assert counts(run(renamed, pods, slices)[1]) == (0, 0, 0)


def test_one_change_is_one_write() -> None:
    pods = [pod(number) for number in range(9)]
    slices, made = run(service(), pods, [])
    assert counts(made) == (3, 0, 0)
    assert sizes(slices) == [3, 3, 3]
    assert counts(run(service(), pods, slices)[1]) == (0, 0, 0)
    pods[4] = pod(4, ready=False)
    slices, made = run(service(), pods, slices)
    assert counts(made) == (0, 1, 0)
    # Replaced: the new one goes where the old one was.
    slices, made = run(service(), [*pods[:4], *pods[5:], pod(20)], slices)
    assert counts(made) == (0, 1, 0)
    assert sizes(slices) == [3, 3, 3]


def test_what_is_left_goes_where_it_fits_best_or_into_new_slices() -> None:
    pods = [pod(number) for number in range(6)]
    slices, _ = run(service(), pods, [])
    # One and two of three are left; nothing is moved to have fewer slices.
    slices, made = run(service(), [pods[0], pods[3], pods[4]], slices)
    assert counts(made) == (0, 2, 0)
    assert sizes(slices) == [1, 2]
    slices, made = run(service(), [pods[0], pods[3], pods[4], pod(10)], slices)
    assert counts(made) == (0, 1, 0)
    assert sizes(slices) == [1, 3]
    slices, made = run(service(), [pods[0], pods[3], pods[4], *map(pod, range(10, 15))], slices)
    assert counts(made) == (1, 1, 0)
    assert sorted(sizes(slices)) == [2, 3, 3]


def test_a_slice_that_lost_all_endpoints_goes() -> None:
    pods = [pod(number) for number in range(6)]
    slices, _ = run(service(), pods, [])
    slices, made = run(service(), pods[3:], slices)
    assert counts(made) == (0, 0, 1)
    assert names(slices) == ["web-3", "web-4", "web-5"]


def test_pods_with_other_ports_are_in_other_slices() -> None:
    wanted = service(ports=[{"name": "http", "port": 80, "targetPort": "http"}])

    def named(number: int, port: int) -> dict[str, Any]:
        ports = [{"name": "http", "containerPort": port, "protocol": "TCP"}]
        return pod(number, spec={"containers": [{"ports": ports}]})

    slices, _ = run(wanted, [named(1, 8080), named(2, 8080), named(3, 9090)], [])
    assert sorted((one["ports"][0]["port"], len(one["endpoints"])) for one in slices) == [
        (8080, 2), (9090, 1),
    ]  # fmt: skip
    # Those that changed their port move as one write of one slice.
    slices, made = run(wanted, [named(1, 8080), named(2, 8080), named(3, 7070)], slices)
    assert counts(made) == (0, 1, 0)


def test_slices_of_an_earlier_service_of_the_name_are_not_used_again() -> None:
    slices, _ = run(service(uid="old"), [pod(1)], [])
    after, made = run(service(uid="new"), [pod(1)], slices)
    assert counts(made) == (1, 0, 1)
    assert after[0]["metadata"]["ownerReferences"][0]["uid"] == "new"


def test_a_pod_whose_node_is_gone_is_no_endpoint_unless_it_shall_be_published() -> None:
    lost = pod(1, spec={"nodeName": "gone"})
    assert names(run(service(), [lost, pod(2)], [])[0]) == ["web-2"]
    published = service(publishNotReadyAddresses=True)
    assert names(run(published, [lost, pod(2)], [])[0]) == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("distribution", "annotations", "hints"),
    [
        (None, {}, [None, None, None]),
        ("PreferClose", {}, [("z1", ""), None, ("z3", "")]),
        ("PreferSameZone", {}, [("z1", ""), None, ("z3", "")]),
        ("PreferSameNode", {}, [("z1", "n1"), ("", "n2"), ("z3", "n3")]),
        ("Unknown", {}, [None, None, None]),
        ("PreferClose", {MODE: "Auto"}, [None, None, None]),
        ("PreferClose", {MODE: "no"}, [("z1", ""), None, ("z3", "")]),
    ],
)  # fmt: skip
def test_hints(
    distribution: str | None, annotations: dict[str, str], hints: list[tuple[str, str] | None]
) -> None:
    pods = [pod(number, spec={"nodeName": f"n{number}"}) for number in (1, 2, 3)]
    plain, _ = run(service(), pods, [])
    meta = {"annotations": annotations}
    spec = {"trafficDistribution": distribution} if distribution else {}
    wanted = service(metadata=meta, **spec)
    for existing in ([], plain):
        slices, made = run(wanted, pods, existing)
        found = [one.get("hints") for one in slices[0]["endpoints"]]
        assert found == [None if one is None else _hint(*one) for one in hints]
        assert counts(run(wanted, pods, slices)[1]) == (0, 0, 0)
        # Taken away again by one write, if there were any.
        _, made = run(service(), pods, slices)
        assert counts(made) == (0, int(any(hints)), 0)
        assert all("hints" not in one for each in made.update for one in each["endpoints"])


def _hint(zone: str, node: str) -> dict[str, Any]:
    made = {}
    if zone:
        made["forZones"] = [{"name": zone}]
    if node:
        made["forNodes"] = [{"name": node}]
    return made


def test_only_ready_endpoints_have_hints() -> None:
    pods = [pod(1), pod(2, ready=False)]
    slices, _ = run(service(trafficDistribution="PreferClose"), pods, [])
    assert [("hints" in one) for one in slices[0]["endpoints"]] == [True, False]


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ({"ipFamilies": ["IPv6", "IPv4"]}, ["IPv6", "IPv4"]),
        ({"ipFamilies": [], "clusterIP": "fd00::1"}, ["IPv6"]),
        ({"ipFamilies": None, "clusterIP": "10.0.0.1"}, ["IPv4"]),
        ({"ipFamilies": [], "clusterIP": "None"}, ["IPv4", "IPv6"]),
    ],
)
def test_families(spec: dict[str, Any], families: list[str]) -> None:
    assert families_of(service(**spec)) == families


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=20), max_size=6))
def test_whatever_happens_each_endpoint_is_in_one_slice(
    history: list[list[tuple[int, bool]]],
) -> None:
    slices: list[dict[str, Any]] = []
    for state in history:
        pods = [pod(number, ready=ready) for number, ready in dict(state).items()]
        slices, _ = run(service(), pods, slices, limit=4)
        assert names(slices) == sorted(one["metadata"]["name"] for one in pods)
        assert all(size <= 4 for size in sizes(slices))
        assert slices
        ready = {
            one["targetRef"]["name"]: one["conditions"]["ready"]
            for each in slices for one in each["endpoints"]
        }  # fmt: skip
        assert ready == {f"web-{number}": is_ready for number, is_ready in dict(state).items()}
        assert counts(run(service(), pods, slices, limit=4)[1]) == (0, 0, 0)
