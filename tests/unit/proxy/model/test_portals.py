"""The incremental model is, after any history, what computing everything anew gives."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model.portal import Endpoint, Family, Missing, Portal, PortalName
from proxy.model.portals import Model
from tests.support.circumstances import examples
from tests.unit.proxy.fakes import endpoint, endpoint_slice, service

WEB = PortalName("default", "web", "", "TCP")


def model(*objects: Any, node: str = "here", zone: str = "") -> Model:
    one = Model(node)
    one.zone = zone
    for each in objects:
        if hasattr(each, "spec"):
            one.put_service(each)
        else:
            one.put_slice(each)
    return one


def portal(one: Model, name: PortalName = WEB, family: Family = Family.V4) -> Portal:
    one.take(family)
    return one.portals(family)[name]


def test_a_service_and_its_slices_become_a_portal() -> None:
    one = model(
        service(),
        endpoint_slice(endpoint("10.1.0.2"), endpoint("10.1.0.1", nodeName="here")),
        endpoint_slice(endpoint("10.1.0.3"), name="web-2"),
    )
    found = portal(one)
    assert found.cluster_endpoints == (
        Endpoint("10.1.0.1", 8080, True),
        Endpoint("10.1.0.2", 8080),
        Endpoint("10.1.0.3", 8080),
    )
    assert found.has_endpoints
    assert found.internal_missing is None


def test_without_endpoints_it_is_there_and_refuses() -> None:
    assert portal(model(service())).internal_missing is Missing.NOTHING


def test_only_what_changed_is_computed_and_told() -> None:
    one = model(
        service(), service("other", clusterIP="10.0.0.2"), endpoint_slice(endpoint("10.1.0.1"))
    )
    assert len(one.take(Family.V4).changed) == 2
    one.put_slice(endpoint_slice(endpoint("10.1.0.1"), endpoint("10.1.0.2")))
    assert one.take(Family.V4).changed == {WEB}
    one.put_slice(endpoint_slice(endpoint("10.1.0.2"), endpoint("10.1.0.1")))
    assert one.take(Family.V4).changed == set()
    assert one.take(Family.V6).changed == set()
    one.drop_slice(("default", "web-1"))
    one.drop_service(("default", "web"))
    assert one.take(Family.V4).changed == {WEB}
    assert set(one.portals(Family.V4)) == {PortalName("default", "other", "", "TCP")}


def test_a_slice_may_move_to_another_service() -> None:
    one = model(
        service(), service("other", clusterIP="10.0.0.2"), endpoint_slice(endpoint("10.1.0.1"))
    )
    one.put_slice(endpoint_slice(endpoint("10.1.0.1"), service_name="other"))
    assert portal(one).cluster_endpoints == ()
    assert portal(one, PortalName("default", "other", "", "TCP")).cluster_endpoints


def test_slices_may_come_before_their_service() -> None:
    one = model(endpoint_slice(endpoint("10.1.0.1")))
    assert one.take(Family.V4).changed == set()
    one.put_service(service())
    assert portal(one).cluster_endpoints


def old(name: str, year: int, **fields: Any) -> Any:
    return service(name, metadata={"creationTimestamp": f"{year}-01-01T00:00:00Z"}, **fields)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("first", "second", "lost"),
    [
        pytest.param(
            old("b", 2020, externalIPs=["192.0.2.1"]),
            old("a", 2021, clusterIP="10.0.0.2", externalIPs=["192.0.2.1"]),
            "external_ips", id="the older one has an external address",
        ),
        pytest.param(
            old("a", 2020, externalIPs=["192.0.2.1"]),
            old("b", 2020, clusterIP="10.0.0.2", externalIPs=["192.0.2.1"]),
            "external_ips", id="of one age, the name decides",
        ),
        pytest.param(
            old("b", 2021),
            old("a", 2020, clusterIP="10.0.0.2", externalIPs=["10.0.0.1"]),
            "external_ips", id="no external address takes a Service's own",
        ),
        pytest.param(
            old("b", 2020, type="NodePort", ports=[{"port": 80, "nodePort": 30000}]),
            old("a", 2021, clusterIP="10.0.0.2", type="NodePort",
                ports=[{"port": 80, "nodePort": 30000}]),
            "node_port", id="a node port",
        ),
    ],
)  # fmt: skip
def test_two_that_claim_the_same(
    first: Any, second: Any, lost: str, order: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    one = model(*[(first, second)[number] for number in order])
    with caplog.at_level(logging.WARNING):
        one.take(Family.V4)
        one.put_service(second)
        one.take(Family.V4)
    by_name = {name.service: each for name, each in one.portals(Family.V4).items()}
    winner, loser = by_name[first.metadata.name], by_name[second.metadata.name]
    assert not getattr(loser, lost)
    assert getattr(winner, lost) or lost == "external_ips"
    assert [record.__dict__["fields"]["object"] for record in caplog.records] == [
        f"default/{loser.name.service}"
    ]
    one.drop_service(("default", winner.name.service))
    one.take(Family.V4)
    assert getattr(one.portals(Family.V4)[loser.name], lost)


def test_two_with_one_cluster_address_are_one() -> None:
    one = model(old("b", 2020), old("a", 2021))
    one.take(Family.V4)
    assert [name.service for name in one.portals(Family.V4)] == ["b"]


def test_a_zone_that_becomes_known_counts() -> None:
    hinted = endpoint_slice(
        endpoint("10.1.0.1", hints={"forZones": [{"name": "a"}]}),
        endpoint("10.1.0.2", hints={"forZones": [{"name": "b"}]}),
    )
    one = model(service(), hinted)
    assert len(portal(one).cluster_endpoints) == 2
    one.zone = "b"
    assert portal(one).cluster_endpoints == (Endpoint("10.1.0.2", 8080),)


def test_trigger_times_are_told_once_and_not_of_the_past() -> None:
    one = Model("here", started=1_700_000_000.0)
    one.put_service(service())
    for second, ip in (("2023-11-14T22:13:10Z", "10.1.0.1"), ("2023-11-14T22:13:30Z", "10.1.0.2")):
        annotations = {"endpoints.kubernetes.io/last-change-trigger-time": second}
        one.put_slice(endpoint_slice(endpoint(ip), metadata={"annotations": annotations}))
    assert one.take(Family.V4).triggers == [1_700_000_010.0]
    assert one.take(Family.V4).triggers == []


def test_health_checks_count_ready_endpoints_of_this_node() -> None:
    balanced = service(
        type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=32000
    )
    here = {"nodeName": "here"}
    one = model(
        balanced,
        endpoint_slice(
            endpoint("10.1.0.1", **here), endpoint("10.1.0.2", nodeName="there"),
            endpoint("10.1.0.3", **here, conditions={"ready": False, "terminating": True}),
        ),
    )  # fmt: skip
    assert one.health_checks() == {("default", "web"): (32000, 1)}
    one.drop_service(("default", "web"))
    assert one.health_checks() == {}


def test_a_problem_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        one = model(service(externalIPs=["nonsense"]))
        one.put_service(service(externalIPs=["nonsense"]))
    assert [record.__dict__["fields"]["problem"] for record in caplog.records] == [
        "spec.externalIPs: 'nonsense' is no IP address"
    ]
    one.put_service(service())
    assert len(one.complaints) == 0


_IPS = st.sampled_from(["10.1.0.1", "10.1.0.2", "10.1.0.3", "bad", "fd00::1"])
_ENDPOINTS = st.builds(
    endpoint, _IPS,
    nodeName=st.sampled_from(["here", "there", None]),
    conditions=st.fixed_dictionaries(
        {"ready": st.sampled_from([True, False, None]), "serving": st.booleans(),
         "terminating": st.booleans()}
    ),
    hints=st.sampled_from(
        [None, {"forZones": [{"name": "a"}]}, {"forZones": [{"name": "b"}]},
         {"forNodes": [{"name": "here"}], "forZones": [{"name": "a"}]}]
    ),
)  # fmt: skip
_SLICES = st.builds(
    lambda endpoints, name, of, port, kind: endpoint_slice(
        *endpoints, name=name, service_name=of, kind=kind,
        ports=[{"name": port, "port": 8080}, {"name": "x", "port": 1}],
    ),
    st.lists(_ENDPOINTS, max_size=4), st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from(["a", "b"]), st.sampled_from(["", "x"]), st.sampled_from(["IPv4", "IPv6"]),
)  # fmt: skip
_SERVICES = st.builds(
    lambda name, cluster, external, policy, year, port: service(
        name, clusterIP=cluster, clusterIPs=[cluster, "fd00::10"], externalIPs=external,
        type="NodePort", internalTrafficPolicy=policy, externalTrafficPolicy=policy,
        metadata={"creationTimestamp": f"{year}-01-01T00:00:00Z"},
        ports=[{"port": 80, "nodePort": port}, {"name": "x", "port": 81}],
    ),
    st.sampled_from(["a", "b", "c"]), st.sampled_from(["10.0.0.1", "10.0.0.2", "None"]),
    st.sampled_from([[], ["192.0.2.1"], ["10.0.0.1"]]), st.sampled_from(["Local", "Cluster"]),
    st.integers(2020, 2022), st.sampled_from([0, 30000, 30001]),
)  # fmt: skip
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("service"), _SERVICES),
        st.tuples(st.just("slice"), _SLICES),
        st.tuples(st.just("drop service"), st.sampled_from(["a", "b", "c"])),
        st.tuples(st.just("drop slice"), st.sampled_from(["s1", "s2", "s3"])),
        st.tuples(st.just("zone"), st.sampled_from(["a", "b", ""])),
        st.tuples(st.just("take"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=examples(150), deadline=None)
@given(_STEPS)
def test_any_history_gives_what_computing_anew_gives(steps: list[tuple[str, Any]]) -> None:
    one, zone = Model("here"), ""
    services: dict[str, Any] = {}
    slices: dict[str, Any] = {}
    seen: dict[Family, dict[PortalName, Portal]] = {family: {} for family in Family}
    for what, value in [*steps, ("take", None)]:
        if what == "service":
            services[value.metadata.name] = value
            one.put_service(value)
        elif what == "slice":
            slices[value.metadata.name] = value
            one.put_slice(value)
        elif what == "drop service":
            services.pop(value, None)
            one.drop_service(("default", value))
        elif what == "drop slice":
            slices.pop(value, None)
            one.drop_slice(("default", value))
        elif what == "zone":
            one.zone = zone = value
        else:
            for family in Family:
                changed = one.take(family).changed
                now = dict(one.portals(family))
                # What is told as changed is what changed, no less and no more.
                before = seen[family]
                assert changed == {
                    name for name in now.keys() | before.keys()
                    if now.get(name) != before.get(name)
                }  # fmt: skip
                seen[family] = now
    anew = Model("here")
    anew.zone = zone
    for each in [*reversed(slices.values())]:
        anew.put_slice(each)
    for each in [*reversed(services.values())]:
        anew.put_service(each)
    for family in Family:
        anew.take(family)
        assert one.portals(family) == anew.portals(family)
