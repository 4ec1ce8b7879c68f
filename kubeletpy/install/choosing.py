"""From what was asked for, what was chosen before, and the machine: what is installed (pure)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import msgspec

from kubeletpy.install.errors import InstallError
from kubeletpy.install.facts import Facts
from kubeletpy.install.installation import (
    OURS,
    Cluster,
    NodeInstallation,
    ServerChoice,
    check,
)

POD_CIDRS = ("10.244.0.0/16",)
SERVICE_CIDRS = ("10.96.0.0/16",)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for; None: nothing, so that it stays as it was chosen before, or by default.

    Attributes:
        role: ``server`` or ``node``; "": as before.
        server: of role node, URL of the API server; None: as before, or of a kubeconfig.
    """

    role: str = ""
    program: tuple[str, ...] | None = None
    node_name: str | None = None
    node_ip: str | None = None
    labels: tuple[str, ...] | None = None
    taints: tuple[str, ...] | None = None
    cgroup_driver: str | None = None
    runtime_endpoint: str | None = None
    proxy: bool | None = None
    proxy_mode: str | None = None
    pod_network: str | None = None
    kubeconfig: str | None = None
    server: str | None = None
    pod_cidrs: tuple[str, ...] | None = None
    service_cidrs: tuple[str, ...] | None = None
    dns: tuple[str, ...] | None = None
    domain: str | None = None
    advertise_address: str | None = None
    port: int | None = None
    node: bool | None = None
    storage: bool | None = None
    dns_clients: tuple[str, ...] | None = None
    ingress: bool | None = None
    balancer_pool: tuple[str, ...] | None = None
    balancer_link: str | None = None


def choose(previous: NodeInstallation | None, asked: Asked, facts: Facts) -> NodeInstallation:
    """Return what is to be installed.

    Raises:
        InstallError: something cannot be, or cannot be changed any more.
    """
    role = asked.role or (previous.role if previous else "")
    if previous is not None and role != previous.role:
        raise InstallError(
            f"this machine is installed as a {previous.role}; to make it a {role}, remove that "
            "first: kubeletpy uninstall"
        )
    one = previous or _new(role, facts)
    plain = ("program", "node_name", "node_ip", "labels", "taints", "cgroup_driver",
             "runtime_endpoint", "proxy", "proxy_mode", "pod_network", "kubeconfig")  # fmt: skip
    given = {name: getattr(asked, name) for name in plain if getattr(asked, name) is not None}
    if previous is not None:
        _keep(previous, given)
    one = msgspec.structs.replace(one, **given)
    if not one.program:
        raise InstallError(
            "services cannot start this `kubeletpy` by a name of its own: install the package "
            "(kubeletpy package deb), or name one with --program"
        )
    one = _with_server(one, previous, asked, facts)
    one = msgspec.structs.replace(one, cluster=_cluster(one, previous, asked))
    if not one.node_ip and one.runs_pods:
        address = one.server.advertise_address if one.server else facts.address
        one = msgspec.structs.replace(one, node_ip=address)
    check(one)
    return one


def _new(role: str, facts: Facts) -> NodeInstallation:
    return NodeInstallation(
        role=role,
        program=facts.program,
        node_name=facts.hostname,
        cgroup_driver=facts.cgroup_driver,
        resolv_conf=facts.resolv_conf,
        proxy_mode="nftables" if facts.nftables else "iptables",
    )


def _keep(previous: NodeInstallation, given: dict[str, object]) -> None:
    """Refuse what pods that run would not survive."""
    for name, flag in (("node_name", "--node-name"), ("cgroup_driver", "--cgroup-driver")):
        before = getattr(previous, name)
        if given.get(name, before) != before:
            raise InstallError(
                f"{flag} is {before} here, and cannot become {given[name]} under pods that run; "
                "remove the node first: kubeletpy uninstall"
            )


def _with_server(
    one: NodeInstallation, previous: NodeInstallation | None, asked: Asked, facts: Facts
) -> NodeInstallation:
    if one.role != "server":
        return one
    if one.server is None:
        address = asked.advertise_address or facts.address
        if not address:
            raise InstallError(
                "this machine has no default route that tells its address: name the one that "
                "nodes reach it by with --advertise-address"
            )
        one = msgspec.structs.replace(one, server=ServerChoice(advertise_address=address))
    assert one.server is not None
    names = ("advertise_address", "port", "node", "storage", "dns_clients", "ingress",
             "balancer_pool", "balancer_link")  # fmt: skip
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    return msgspec.structs.replace(one, server=msgspec.structs.replace(one.server, **given))


def _cluster(one: NodeInstallation, previous: NodeInstallation | None, asked: Asked) -> Cluster:
    names = ("server", "pod_cidrs", "service_cidrs", "dns", "domain")
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    if one.server is None:
        return msgspec.structs.replace(one.cluster, **given)
    pods = given.get("pod_cidrs", one.cluster.pod_cidrs or POD_CIDRS)
    services = given.get("service_cidrs", one.cluster.service_cidrs or SERVICE_CIDRS)
    if previous is not None and (pods, services) != (
        previous.cluster.pod_cidrs, previous.cluster.service_cidrs
    ):  # fmt: skip
        raise InstallError(
            "networks of pods and Services cannot be changed under a cluster that has them; "
            "remove it first: kubeletpy uninstall"
        )
    host = one.server.advertise_address
    host = f"[{host}]" if ":" in host else host
    return msgspec.structs.replace(
        one.cluster, pod_cidrs=pods, service_cidrs=services,
        server=f"https://{host}:{one.server.port}", dns=(dns_address(services[0]),),
        domain=given.get("domain", one.cluster.domain), serving_certificates=True,
    )  # fmt: skip


def with_both_families(one: NodeInstallation, facts: Facts) -> NodeInstallation:
    """Return a new installation whose node has an address of each family that its pods have.

    For one whose addresses were not asked for: the other one is that of its default route.
    """
    families = {ipaddress.ip_network(cidr).version for cidr in one.cluster.pod_cidrs}
    other = facts.other_address
    if len(families) < 2 or not one.node_ip or "," in one.node_ip or not other:
        return one
    if ipaddress.ip_address(one.node_ip).version == ipaddress.ip_address(other).version:
        return one
    return msgspec.structs.replace(one, node_ip=f"{one.node_ip},{other}")


def dns_address(service_cidr: str) -> str:
    """Return the address of the DNS Service: the tenth of the range, as kubeadm has it."""
    try:
        return str(ipaddress.ip_network(service_cidr)[10])
    except (ValueError, IndexError) as error:
        raise InstallError(f"--service-cidr {service_cidr}: {error}") from error


__all__ = ["OURS", "Asked", "choose", "dns_address", "with_both_families"]
