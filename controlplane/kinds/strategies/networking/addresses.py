"""networking.k8s.io/v1 IPAddress and ServiceCIDR (KEP-1880)."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import immutable, path_problems, required, wrong
from controlplane.api.resource import Column, Object, Strategy

_MOST_CIDRS: Final = 2


class IPAddress(Strategy):
    """An address that something has; the address is its name."""

    has_status = False
    names = "path"
    selectable = frozenset({"spec.parentRef.name", "spec.parentRef.resource"})
    columns = (Column("ParentRef", description="What has the address."),)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the address and with what has it."""
        name = value["metadata"].get("name", "")
        causes = [] if is_canonical(name) else [
            wrong("metadata.name", name, "must be a valid IP address in canonical form")
        ]  # fmt: skip
        parent = value.get("spec", {}).get("parentRef")
        if old is not None and parent != old.get("spec", {}).get("parentRef"):
            causes.append(immutable("spec.parentRef", parent))
        if parent is None:
            return [*causes, required("spec.parentRef")]
        for key in ("resource", "name"):
            if not parent.get(key):
                causes.append(required(f"spec.parentRef.{key}"))
            else:
                problems = path_problems(parent[key])
                causes += [wrong(f"spec.parentRef.{key}", parent[key], why) for why in problems]
        return causes

    def fields(self, value: Object) -> dict[str, str]:
        """Return what has the address."""
        parent = value.get("spec", {}).get("parentRef", {})
        return {f"spec.parentRef.{key}": parent.get(key, "") for key in ("name", "resource")}

    def row(self, value: Object) -> list[Any]:
        """Return the cell."""
        parent = value.get("spec", {}).get("parentRef", {})
        resource = ".".join(filter(None, (parent.get("resource"), parent.get("group"))))
        parts = (resource, parent.get("namespace"), parent.get("name"))
        return ["/".join(part for part in parts if part)]


class ServiceCIDR(Strategy):
    """A network for the addresses of services."""

    columns = (Column("CIDRs", description="The networks, of one or both families."),)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the networks; a second one may be added, none changed."""
        path = "spec.cidrs"
        cidrs = value.get("spec", {}).get("cidrs", [])
        if old is not None:
            before = old.get("spec", {}).get("cidrs", [])
            if len(cidrs) < len(before):
                return [immutable(path, cidrs)]
            causes = [immutable(f"{path}[{index}]", new)
                      for index, (new, known) in enumerate(zip(cidrs, before, strict=False))
                      if new != known]  # fmt: skip
            if causes or len(cidrs) == len(before):
                return causes
        if not cidrs:
            return [required(path, "at least one CIDR required")]
        if len(cidrs) > _MOST_CIDRS:
            return [wrong(path, cidrs, "may only hold up to 2 values")]
        networks = [_network(cidr) for cidr in cidrs]
        causes = [wrong(f"{path}[{index}]", cidr, "must be a valid CIDR value in canonical form")
                  for index, (cidr, network) in enumerate(zip(cidrs, networks, strict=True))
                  if network is None]  # fmt: skip
        families = [network.version for network in networks if network is not None]
        if len(families) != len(set(families)):
            causes.append(wrong(path, cidrs, "may specify no more than one IP for each IP family"))
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Tell that services get no address of it."""
        return [
            "spec.cidrs: this server gives services addresses of --service-cluster-ip-range only"
        ]

    def row(self, value: Object) -> list[Any]:
        """Return the cell."""
        return [",".join(value.get("spec", {}).get("cidrs", []))]


def is_canonical(text: str) -> bool:
    """Say whether it is an IP address as it is written in one way only."""
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    return network if str(network) == text else None
