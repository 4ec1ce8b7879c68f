"""Configuration files of the daemons and of the machine (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

from kubeletpy.install import places
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.install.rendered import HEADER, Rendered
from kubeletpy.up.commands import BRIDGE

_PRIVATE: Final = 0o600


@dataclass(frozen=True)
class MachineFacts:
    """What the files depend on besides what was chosen.

    Attributes:
        cgroup_version: 1 or 2.
    """

    cgroup_version: int = 2


def rendered(one: NodeInstallation, facts: MachineFacts) -> list[Rendered]:
    """Return all configuration files but kubeconfigs, which are written at the joining."""
    files = []
    if one.own_runtime:
        files.append(Rendered(places.RUNTIME, runtime_toml(one), _PRIVATE))
    if one.runs_pods:
        files.append(Rendered(places.KUBELET, _yaml(kubelet(one, facts)), _PRIVATE))
        if one.proxy:
            files.append(Rendered(places.PROXY, _yaml(proxy(one)), _PRIVATE))
        files.append(Rendered(places.SYSCTL, sysctl_conf(one)))
        files.append(Rendered(places.MODULES, modules_conf(one)))
    return files


def runtime_toml(one: NodeInstallation) -> str:
    """Return the runtime's settings."""
    text = f'{HEADER}\n[cgroups]\ndriver = "{one.cgroup_driver}"\n'
    lines = network_lines(one)
    return text + ("\n[network]\n" + "\n".join(lines) + "\n" if lines else "")


def network_lines(one: NodeInstallation) -> list[str]:
    """Return the runtime's settings of its network, which is the node's part of the cluster's.

    A cluster whose networks are not known (``--pod-network none``) has its own.
    """
    if not one.cluster.pod_cidrs:
        return []
    networks = ", ".join(f'"{cidr}"' for cidr in one.cluster.pod_cidrs)
    return ["from_node = true", f"no_masquerade = [{networks}]"]


def kubelet(one: NodeInstallation, facts: MachineFacts) -> dict[str, Any]:
    """Return the KubeletConfiguration."""
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": one.cgroup_driver,
        "containerRuntimeEndpoint": one.runtime_endpoint,
        "staticPodPath": str(places.MANIFESTS),
        "authentication": {"x509": {"clientCAFile": str(places.AUTHORITY)}},
        "rotateCertificates": True,
        "serverTLSBootstrap": one.cluster.serving_certificates,
    }
    if one.cluster.dns:
        settings |= {"clusterDNS": list(one.cluster.dns), "clusterDomain": one.cluster.domain}
    if one.resolv_conf:
        settings["resolvConf"] = one.resolv_conf
    if one.taints:
        settings["registerWithTaints"] = [_taint(text) for text in one.taints]
    if facts.cgroup_version == 1:
        # Refused by default since Kubernetes 1.35; that this machine has v1 is known.
        settings["failCgroupV1"] = False
    # Pods get no swap all the same (memorySwap).
    return settings | {"failSwapOn": False}


def proxy(one: NodeInstallation) -> dict[str, Any]:
    """Return the KubeProxyConfiguration."""
    settings: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        # Those of the node: it tells the cluster of its network, too.
        "clientConnection": {"kubeconfig": str(one.credentials)},
        "hostnameOverride": one.node_name,
        "mode": one.proxy_mode,
    }
    if one.cluster.pod_cidrs:
        settings["clusterCIDR"] = ",".join(one.cluster.pod_cidrs)
    if one.own_runtime:
        settings |= {
            "detectLocalMode": "BridgeInterface",
            "detectLocal": {"bridgeInterface": BRIDGE},
        }
    return settings


def sysctls(one: NodeInstallation) -> dict[str, str]:
    """Return the kernel's settings of a node, in the order in which they are to be set.

    IPv6 forwarding makes the kernel ignore router advertisements unless accept_ra is 2
    (Documentation/networking/ip-sysctl.rst), and with them the default route of many machines.
    """
    settings = {"net.ipv4.ip_forward": "1"}
    if any(":" in cidr for cidr in one.cluster.pod_cidrs):
        settings |= {
            "net.ipv6.conf.default.accept_ra": "2",
            "net.ipv6.conf.all.accept_ra": "2",
            "net.ipv6.conf.all.forwarding": "1",
        }
    if one.proxy:
        settings |= {
            "net.bridge.bridge-nf-call-iptables": "1",
            "net.bridge.bridge-nf-call-ip6tables": "1",
        }
    return settings


def sysctl_conf(one: NodeInstallation) -> str:
    """Return the file for systemd-sysctl, sysctl.d(5)."""
    return HEADER + "\n" + "".join(f"{name} = {value}\n" for name, value in sysctls(one).items())


def modules(one: NodeInstallation) -> tuple[str, ...]:
    """Return the kernel modules that are loaded at boot; others the kernel loads by itself."""
    names = ["overlay"] if one.own_runtime else []
    if one.proxy:
        # The proxy may not load modules itself. Policies see traffic between pods of one bridge.
        names += ["br_netfilter", "nf_conntrack"]
        names += ["nf_tables"] if one.proxy_mode == "nftables" else ["ip_tables", "ip6_tables"]
    if one.pod_network in ("auto", "vxlan"):
        names.append("vxlan")
    return tuple(names)


def modules_conf(one: NodeInstallation) -> str:
    """Return the file for systemd-modules-load, modules-load.d(5)."""
    return HEADER + "\n" + "".join(f"{name}\n" for name in modules(one))


def kubeconfig(server: str, user: dict[str, str], authority: str = str(places.AUTHORITY)) -> str:
    """Return a kubeconfig whose authority is in a file."""
    cluster = {"server": server, "certificate-authority": authority}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "cluster",
        },
        sort_keys=False,
    )


def _taint(text: str) -> dict[str, str]:
    head, _, effect = text.rpartition(":")
    key, _, value = head.partition("=")
    return {"key": key, "value": value, "effect": effect}


def _yaml(value: dict[str, Any]) -> str:
    return f"{HEADER}\n{yaml.safe_dump(value, sort_keys=False)}"
