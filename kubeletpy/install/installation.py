"""What was chosen at the installation: kind ``NodeInstallation``, kept in ``node.yaml``."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from kubeletpy.install import places
from kubeletpy.install.errors import InstallError
from kubeletpy_common.atomic import write_atomic

API_VERSION: Final = "kubeletpy.io/v1alpha1"
KIND: Final = "NodeInstallation"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL: Final = re.compile(r"([A-Za-z0-9./_-]+)=([A-Za-z0-9._-]*)")
_TAINT: Final = re.compile(
    r"[A-Za-z0-9./_-]+(=[A-Za-z0-9._-]*)?:(NoSchedule|PreferNoSchedule|NoExecute)"
)
OURS: Final = f"unix://{places.SOCKET}"


class _Strict(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """A table whose unknown keys are errors."""


class Cluster(_Strict, frozen=True):
    """The cluster, as far as its nodes have to know it.

    Attributes:
        server: URL of the API server.
        pod_cidrs, service_cidrs: networks of all pods, and of Services; one for each family.
        dns: addresses of the cluster's DNS.
        domain: of its names.
        serving_certificates: the kubelet asks the cluster for the certificate of its API.
    """

    server: str = ""
    pod_cidrs: tuple[str, ...] = ()
    service_cidrs: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    domain: str = "cluster.local"
    serving_certificates: bool = False


class ServerChoice(_Strict, frozen=True):
    """What only a server has.

    Attributes:
        advertise_address: IP address that nodes reach the API server by.
        port: of the API server.
        node: this machine runs pods too.
        storage: controllers make directories of this machine for volumes of class ``standard``.
        ingress: an nginx of this machine serves Ingresses.
        balancer_pool: networks that Services of type LoadBalancer get addresses from.
        balancer_link: link of this machine that answers for them; "": somebody else does.
        dns_clients: networks besides nodes' and pods' whose queries the DNS answers; ``any``: all.
    """

    advertise_address: str
    port: int = 6443
    node: bool = True
    storage: bool = True
    dns_clients: tuple[str, ...] = ()
    ingress: bool = False
    balancer_pool: tuple[str, ...] = ()
    balancer_link: str = ""


class NodeInstallation(_Strict, frozen=True):
    """One machine's installation.

    Attributes:
        role: ``server`` or ``node``.
        program: words that start the command ``kubeletpy``.
        node_name: of the Node object.
        node_ip: its addresses, with a comma; "": the kubelet finds one.
        labels, taints: the node is registered with them.
        cgroup_driver: of runtime and kubelet; never changed once there are pods.
        runtime_endpoint: CRI socket; another one than ours means that ours is not installed.
        proxy: Services and policies are made true by our proxy.
        proxy_mode: ``nftables`` or ``iptables``.
        pod_network: how pods of other nodes are reached: auto, host-gw, vxlan, none.
        kubeconfig: file that was given to reach an existing cluster; "": a token was.
        renewed: it has a certificate, which the kubelet renews in its own directory.
        resolv_conf: that pods with the DNS of the node get.
        cluster: facts of it.
        server: of role server only.
    """

    role: str
    program: tuple[str, ...]
    node_name: str
    node_ip: str = ""
    labels: tuple[str, ...] = ()
    taints: tuple[str, ...] = ()
    cgroup_driver: str = "cgroupfs"
    runtime_endpoint: str = OURS
    proxy: bool = True
    proxy_mode: str = "nftables"
    pod_network: str = "auto"
    kubeconfig: str = ""
    renewed: bool = False
    resolv_conf: str = ""
    cluster: Cluster = Cluster()
    server: ServerChoice | None = None
    api_version: str = API_VERSION
    kind: str = KIND

    @property
    def runs_pods(self) -> bool:
        """Whether this machine is a node."""
        return self.server is None or self.server.node

    @property
    def credentials(self) -> Path:
        """The kubeconfig of this node that stays good: the first certificate of one given ends."""
        return places.RENEWED_KUBECONFIG if self.renewed else places.KUBECONFIG

    @property
    def own_runtime(self) -> bool:
        """Whether our container runtime is used."""
        return self.runs_pods and self.runtime_endpoint == OURS


def check(one: NodeInstallation) -> None:
    """Look for what cannot work (pure).

    Raises:
        InstallError: something cannot; the text names the setting.
    """
    if not _NAME.fullmatch(one.node_name):
        raise InstallError(
            f"{one.node_name!r} is no name of a node: small letters, digits, - and ."
        )
    for label in one.labels:
        if not _LABEL.fullmatch(label):
            raise InstallError(f"--label {label}: expected KEY=VALUE")
    for taint in one.taints:
        if not _TAINT.fullmatch(taint):
            raise InstallError(
                f"--taint {taint}: expected KEY[=VALUE]:EFFECT, with an effect of NoSchedule, "
                "PreferNoSchedule, NoExecute"
            )
    for address in filter(None, one.node_ip.split(",")):
        _address(address, "--node-ip")
    networks = [*one.cluster.pod_cidrs, *one.cluster.service_cidrs]
    parsed = [_network(text) for text in networks]
    for index, first in enumerate(parsed):
        for second in parsed[index + 1 :]:
            if first.version == second.version and first.overlaps(second):
                raise InstallError(f"the networks {first} and {second} of the cluster overlap")
    for kind in (one.cluster.pod_cidrs, one.cluster.service_cidrs):
        families = [_network(text).version for text in kind]
        if len(set(families)) != len(families):
            raise InstallError(f"{','.join(kind)}: one network of each family at most")
    if one.server is not None:
        own = _address(one.server.advertise_address, "--advertise-address")
        if own.is_loopback or own.is_unspecified or own.is_multicast:
            raise InstallError(
                f"--advertise-address {own}: other machines cannot reach this one by it"
            )
        for text in one.server.balancer_pool:
            _network(text, "--load-balancer-pool ")
        if one.server.balancer_link and not one.server.balancer_pool:
            raise InstallError("--load-balancer-interface needs a --load-balancer-pool")
        for text in one.server.dns_clients:
            if text != "any":
                _network(text, "--dns-allow-from ")


def _address(text: str, flag: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InstallError(f"{flag} {text}: not an IP address") from None


def _network(text: str, flag: str = "") -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InstallError(f"{flag}{text}: {error}") from None


def read(path: Path) -> NodeInstallation | None:
    """Return what was chosen here before; None if nothing was.

    Raises:
        InstallError: the file cannot be understood.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"cannot read {path}: {error}") from error
    try:
        value: Any = yaml.safe_load(text)
        found = msgspec.convert(value, NodeInstallation)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise InstallError(
            f"{path} is not what `kubeletpy install` wrote: {error}; mend it, or remove all by "
            "`kubeletpy uninstall` and install again"
        ) from error
    if (found.api_version, found.kind) != (API_VERSION, KIND):
        raise InstallError(f"{path}: expected {API_VERSION} {KIND}, "
                           f"found {found.api_version} {found.kind}")  # fmt: skip
    return found


def text_of(one: NodeInstallation) -> str:
    """Return the file's text (pure)."""
    value = msgspec.to_builtins(one)
    ordered = {key: value.pop(key) for key in ("apiVersion", "kind", "role")}
    ordered |= {key: entry for key, entry in value.items() if entry not in (None, "", [])}
    head = "# What was chosen at `kubeletpy install`; upgrades and `kubeletpy uninstall` read it.\n"
    return head + yaml.safe_dump(_plain(ordered), sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def write(path: Path, one: NodeInstallation) -> None:
    """Keep what was chosen, durably."""
    write_atomic(path, text_of(one), mode=0o600, sync=True)
