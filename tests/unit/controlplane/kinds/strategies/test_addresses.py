from __future__ import annotations

from typing import Any

import pytest

from controlplane.kinds.strategies.networking.addresses import IPAddress, ServiceCIDR

PARENT = {"resource": "services", "namespace": "default", "name": "a"}


def address(name: str, parent: dict[str, Any] | None) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {} if parent is None else {"parentRef": parent}}


@pytest.mark.parametrize(
    ("name", "parent", "fields"),
    [
        ("10.0.0.1", PARENT, []),
        ("fe80::42:1dff:fe84:f9e2", PARENT, []),
        ("2001:DB8::1", PARENT, ["metadata.name"]),
        ("010.0.0.1", PARENT, ["metadata.name"]),
        ("10.0.0.1", None, ["spec.parentRef"]),
        ("10.0.0.1", {"name": ".."}, ["spec.parentRef.resource", "spec.parentRef.name"]),
    ],
)
def test_addresses(name: str, parent: dict[str, Any] | None, fields: list[str]) -> None:
    found = IPAddress().validate(address(name, parent), None)
    assert [cause.field for cause in found] == fields


def test_who_has_an_address_never_changes() -> None:
    old, new = address("10.0.0.1", PARENT), address("10.0.0.1", {**PARENT, "name": "b"})
    assert [cause.field for cause in IPAddress().validate(new, old)] == ["spec.parentRef"]
    assert IPAddress().validate(old, old) == []
    assert IPAddress().row(old) == ["services/default/a"]
    assert IPAddress().fields(old)["spec.parentRef.resource"] == "services"


@pytest.mark.parametrize(
    ("before", "cidrs", "fields"),
    [
        (None, ["10.0.0.0/24"], []),
        (None, ["10.0.0.0/24", "fd00::/112"], []),
        (None, [], ["spec.cidrs"]),
        (None, ["10.0.0.1/24"], ["spec.cidrs[0]"]),
        (None, ["10.0.0.0/24", "10.1.0.0/24"], ["spec.cidrs"]),
        (None, ["10.0.0.0/24", "fd00::/112", "fd01::/112"], ["spec.cidrs"]),
        (["10.0.0.0/24"], ["10.0.0.0/24"], []),
        (["10.0.0.0/24"], ["10.0.0.0/24", "fd00::/112"], []),
        (["10.0.0.0/24"], ["10.0.0.0/24", "10.1.0.0/24"], ["spec.cidrs"]),
        (["10.0.0.0/24"], ["10.9.0.0/24"], ["spec.cidrs[0]"]),
        (["10.0.0.0/24", "fd00::/112"], ["10.0.0.0/24"], ["spec.cidrs"]),
    ],
)
def test_networks(before: list[str] | None, cidrs: list[str], fields: list[str]) -> None:
    old = None if before is None else {"metadata": {}, "spec": {"cidrs": before}}
    found = ServiceCIDR().validate({"metadata": {}, "spec": {"cidrs": cidrs}}, old)
    assert [cause.field for cause in found] == fields
