"""Where an extension server is, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.aggregation.discovery import Entry, entries, group_list, resources_of
from controlplane.aggregation.forwarding import headers_of
from controlplane.aggregation.resolving import Endpoint, ResolveError, obstacle, resolve
from controlplane.api.identity import User
from controlplane.kinds.catalog import Catalog, builtin_resources
from controlplane.kinds.strategies import STRATEGIES
from controlplane.kinds.types import builtin_types


def service(kind: str = "ClusterIP", port: int = 443, name: str = "https", **more: Any) -> Any:
    return {"spec": {"type": kind, "ports": [{"port": port, "name": name}], **more}}


def piece(*addresses: str, family: str = "IPv4", name: str = "https", ready: Any = True) -> Any:
    endpoints = [{"addresses": [one], "conditions": {"ready": ready}} for one in addresses]
    return {"addressType": family, "endpoints": endpoints, "ports": [{"name": name, "port": 8443}]}


SPEC = {"service": {"namespace": "ns", "name": "svc", "port": 443}}
WHERE = 'service/svc in "ns"'


@pytest.mark.parametrize(
    ("service", "slices", "wanted"),
    [
        (None, [], ("ServiceNotFound", f"{WHERE} is not present")),
        (service(port=80), [], ("ServicePortError", f"{WHERE} is not listening on port 443")),
        (service(), [], ("EndpointsNotFound", f"cannot find endpointslices for {WHERE}")),
        (service(), [piece("10.0.0.1", name="http")], (
            "MissingEndpoints",
            f'endpointslices for {WHERE} have no addresses with port name "https"')),
        (service(), [piece("10.0.0.1", ready=False)], (
            "MissingEndpoints",
            f'endpointslices for {WHERE} have no addresses with port name "https"')),
        (service(), [piece("10.0.0.1")], None),
        (service(), [piece("10.0.0.1", ready=None)], None),
        (service("ExternalName", port=1), [], None),
    ],
)  # fmt: skip
def test_what_keeps_a_service_from_being_asked(service: Any, slices: Any, wanted: Any) -> None:
    assert obstacle(SPEC, service, slices) == wanted


@pytest.mark.parametrize(
    ("service", "slices", "wanted"),
    [
        (service(), [piece("10.0.0.1")], Endpoint("10.0.0.1", 8443)),
        (service(ipFamilies=["IPv6"]), [piece("10.0.0.1"), piece("fd00::1", family="IPv6")],
         Endpoint("fd00::1", 8443)),
        (service(), [piece("10.0.0.1", ready=False), piece("10.0.0.2")],
         Endpoint("10.0.0.2", 8443)),
        (service("NodePort"), [piece("10.0.0.1")], Endpoint("10.0.0.1", 8443)),
        (service("ExternalName"), [], 'unsupported service type "ExternalName"'),
        (service(port=1), [], 'no service port 443 found for service "svc"'),
        (service(), [], 'no endpoints available for service "svc"'),
        (None, [], 'service "svc" not found'),
    ],
)  # fmt: skip
def test_a_service_leads_to_a_ready_endpoint(service: Any, slices: Any, wanted: Any) -> None:
    if isinstance(wanted, Endpoint):
        assert resolve(service, slices, "svc", 443, lambda _: 0) == wanted
        return
    with pytest.raises(ResolveError) as error:
        resolve(service, slices, "svc", 443)
    assert str(error.value) == wanted


def api_service(group: str, version: str, priority: int, version_priority: int) -> Any:
    return {"spec": {"group": group, "version": version, "groupPriorityMinimum": priority,
                     "versionPriority": version_priority, "service": {"name": "x"}}}  # fmt: skip


def test_groups_and_versions_are_in_the_order_of_their_priorities() -> None:
    catalog = Catalog(builtin_resources(builtin_types(), STRATEGIES))
    found = entries(catalog, [
        api_service("b.test", "v1", 100, 10),
        api_service("b.test", "v2beta1", 100, 10),
        api_service("b.test", "v2", 100, 10),
        api_service("a.test", "v1", 200, 10),
        api_service("first.test", "v1", 19000, 10),
        api_service("apps", "v9", 17800, 99),
    ])  # fmt: skip
    names = list(found)
    assert names[:3] == ["apiregistration.k8s.io", "first.test", "apps"]
    assert names[-2:] == ["a.test", "b.test"]
    assert [one.version for one in found["b.test"]] == ["v2", "v1", "v2beta1"]
    assert found["apps"] == [
        Entry("apps", "v9", 17800, 99, True), Entry("apps", "v1", 17800, 15)
    ]  # fmt: skip
    groups = {one["name"]: one for one in group_list(found)["groups"]}
    assert groups["apps"]["preferredVersion"]["version"] == "v9"


def test_what_an_extension_tells_is_taken_with_care() -> None:
    listed = [
        {"name": "pods/rate", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]},
        {"name": "pods/size", "namespaced": True, "kind": "MetricValueList", "verbs": ["get", 1]},
        {"name": 1}, "x", {"name": ""}, {"name": "odd", "verbs": "get", "shortNames": [1]},
    ]  # fmt: skip
    found = resources_of({"resources": listed}, "g", "v1")
    kind = {"group": "g", "version": "v1", "kind": "MetricValueList"}
    assert found == [
        {"resource": "pods", "responseKind": {"group": "", "version": "", "kind": ""},
         "scope": "Namespaced", "verbs": [], "subresources": [
             {"subresource": "rate", "responseKind": kind, "verbs": ["get"]},
             {"subresource": "size", "responseKind": kind, "verbs": ["get"]}]},
        {"resource": "odd", "responseKind": {"group": "g", "version": "v1", "kind": ""},
         "scope": "Cluster", "verbs": []},
    ]  # fmt: skip
    assert resources_of(None, "g", "v1") == []
    assert resources_of({"resources": 1}, "g", "v1") == []


def test_headers_say_who_asks() -> None:
    user = User("me", "u-1", ("a", "b"), {"example.com/x y": ("1", "2")})
    assert headers_of(user) == [
        ("X-Remote-User", "me"), ("X-Remote-Uid", "u-1"), ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"), ("X-Remote-Extra-example.com%2Fx%20y", "1"),
        ("X-Remote-Extra-example.com%2Fx%20y", "2"),
    ]  # fmt: skip
