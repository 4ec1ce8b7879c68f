"""resolv.conf of a pod by its DNS policy (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from kubeletpy.api.pod import Pod, PodDNSConfigOption
from kubeletpy_proto import cri_pb2

from .node import NodeFacts, Resolver

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
_LONGEST_DOMAIN = 253
_CLUSTER_OPTIONS = ("ndots:5",)


def dns_config(pod: Pod, node: NodeFacts) -> tuple[cri_pb2.DNSConfig, list[str]]:
    """Return the DNS settings of ``pod`` and warnings for events.

    ``ClusterFirst`` without a cluster DNS falls back to ``Default`` with a warning; so does a
    pod in the host's network, silently, as documented by Kubernetes.
    """
    warnings: list[str] = []
    base = _base(pod, node, warnings)
    servers, searches, options = list(base.servers), list(base.searches), list(base.options)
    extra = pod.spec.dns_config
    if extra is not None:
        servers = _unique(servers + extra.nameservers)
        searches = _unique(searches + extra.searches)
        options = _merge_options(options, extra.options)
    if len(servers) > MAX_NAMESERVERS:
        servers = servers[:MAX_NAMESERVERS]
        warnings.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied "
            f"nameserver line is: {' '.join(servers)}"
        )
    fitting = _fitting_searches(searches)
    if fitting != searches:
        warnings.append(
            "Search Line limits were exceeded, some search paths have been omitted, the applied "
            f"search line is: {' '.join(fitting)}"
        )
    return cri_pb2.DNSConfig(servers=servers, searches=fitting, options=options), warnings


def _base(pod: Pod, node: NodeFacts, warnings: list[str]) -> Resolver:
    policy = pod.spec.dns_policy or "ClusterFirst"
    if policy == "None":
        return Resolver()
    cluster = policy == "ClusterFirstWithHostNet" or (
        policy == "ClusterFirst" and not pod.spec.host_network
    )
    if cluster and node.cluster_dns:
        searches = node.resolver.searches if node.resolver else ()
        if node.cluster_domain:
            domain = node.cluster_domain
            own = (f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain)
            searches = tuple(_unique([*own, *searches]))
        return Resolver(node.cluster_dns, searches, _CLUSTER_OPTIONS)
    if cluster:
        warnings.append(
            f'pod: "{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})". kubelet '
            "does not have ClusterDNS IP configured and cannot create Pod using "
            f'"{policy}" policy. Falling back to "Default" policy.'
        )
    if node.resolver is None:
        servers = _unique("::1" if ":" in ip else "127.0.0.1" for ip in node.ips)
        return Resolver(tuple(servers) or ("127.0.0.1",), (".",), ())
    return node.resolver


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _merge_options(present: list[str], wanted: list[PodDNSConfigOption]) -> list[str]:
    merged: dict[str, str] = {}
    for option in present:
        name, _, value = option.partition(":")
        merged[name] = value
    for entry in wanted:
        merged[entry.name] = entry.value or ""
    return [f"{name}:{value}" if value else name for name, value in merged.items()]


def _fitting_searches(searches: list[str]) -> list[str]:
    # glibc 2.28 aborts on a search path beyond 255 characters: such ones are left out.
    fitting = [name for name in searches[:MAX_SEARCHES] if len(name) <= _LONGEST_DOMAIN]
    while len(" ".join(fitting)) > MAX_SEARCH_CHARACTERS:
        fitting.pop()
    return fitting
