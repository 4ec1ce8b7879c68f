"""Host name and domain of a pod (pure)."""

from __future__ import annotations

from kubeletpy.api.pod import Pod

from .node import NodeFacts
from .security import ConfigError

_LONGEST_HOSTNAME = 63
_LONGEST_KERNEL_HOSTNAME = 64


def hostname_and_domain(pod: Pod, node: NodeFacts) -> tuple[str, str]:
    """Return what ``hostname`` says inside the pod, and the domain of its FQDN ("" if none).

    Raises:
        ConfigError: setHostnameAsFQDN, and the FQDN is longer than the kernel's 64 bytes.
    """
    if pod.spec.host_network:
        return node.name, ""
    if pod.spec.hostname_override:
        return pod.spec.hostname_override, ""
    name = pod.spec.hostname or pod.metadata.name[:_LONGEST_HOSTNAME].rstrip("-.")
    domain = ""
    if pod.spec.subdomain:
        domain = f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{node.cluster_domain}"
    return name, domain


def kernel_hostname(pod: Pod, node: NodeFacts) -> str:
    """Return the host name to set: the short one, or the FQDN where the pod wants that.

    Raises:
        ConfigError: the FQDN is longer than 64 bytes.
    """
    name, domain = hostname_and_domain(pod, node)
    if not (pod.spec.set_hostname_as_fqdn and domain):
        return name
    full = f"{name}.{domain}"
    if len(full) > _LONGEST_KERNEL_HOSTNAME:
        raise ConfigError(
            f"Failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too "
            f"long ({_LONGEST_KERNEL_HOSTNAME} characters is the max, {len(full)} characters "
            "requested)"
        )
    return full
