"""Command lines of the daemons of ``up``."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from typing import Any, Final

from kubeletpy.up.layout import Layout
from kubeletpy_common.ports import free_ports

LOOPBACK: Final = "127.0.0.1"
BRIDGE: Final = "kubeletpy0"
GATEWAY: Final = "10.88.0.1"
"""Of the runtime's own network: this machine, as its pods see it."""
SERVICES: Final = "10.96.0.0/16"
"""Addresses of Services, as the API server has them by default."""
DNS_ADDRESS: Final = "10.96.0.10"
DOMAIN: Final = "cluster.local"
BALANCERS: Final = "10.97.0.0/28"
"""Addresses of Services of type LoadBalancer, for this machine and its pods alone."""
STORAGE_CLASS: Final = "standard"
OF_THE_SERVER: Final = (
    "certificatesigningrequest-approving-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
"""What the API server does itself, quicker than a client of it could."""


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback, or of all addresses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


class Commands:
    """The command lines for one ``Layout``.

    Attributes:
        registry_port, kubelet_port, kubelet_api_port, dns_port: where daemons listen.
        ingress: whether Ingresses are served: there is an nginx, and its ports are free.
    """

    def __init__(self, layout: Layout, registry_port: int, api_port: int) -> None:
        self._layout = layout
        # The same again for one that is started again: it is in kubeconfigs.
        api, registry, *ports = free_ports(7)
        self.api_port = api_port or api
        self.registry_port = registry_port or registry
        self.kubelet_port, self.kubelet_api_port, self.dns_port, *self._proxy_ports = ports
        self.ingress = shutil.which("nginx") is not None and is_free(80) and is_free(443)

    def apiserver(self) -> list[str]:
        """Return that of the API server: programs of this machine reach it by loopback, pods by
        the address of their bridge, which is there with the first of them.
        """
        command = [*_module("controlplane"), f"--secure-port={self.api_port}"]
        command += ["--data-dir", str(self._layout.api_data)]
        command += ["--extra-bind-address", GATEWAY, "--advertise-address", GATEWAY]
        return [*command, "--kubeconfig", str(self._layout.kubeconfig)]

    @property
    def registry_config(self) -> Path:
        """The registry's configuration file."""
        return self._layout.run / "registry.yml"

    def registry(self) -> list[str]:
        """Return that of the registry."""
        program = shutil.which("docker-registry") or "docker-registry"
        return [program, "serve", str(self.registry_config)]

    def runtime(self) -> list[str]:
        """Return that of the container runtime."""
        layout = self._layout
        command = [*_module("runtime"), "--address", f"unix://{layout.socket}"]
        return [*command, "--root", f"{layout.data}/runtime", "--state", f"{layout.run}/runtime"]

    @property
    def kubelet_config(self) -> Path:
        """The kubelet's configuration file."""
        return self._layout.run / "kubelet.yaml"

    def kubelet(self) -> list[str]:
        """Return that of the kubelet."""
        layout = self._layout
        command = [*_module("kubeletpy.kubelet_main"), "--config", str(self.kubelet_config)]
        command += ["--terminate-pods-on-exit", "--node-ip", LOOPBACK]
        command += ["--kubeconfig", str(layout.api_data / "kubelet.kubeconfig")]
        command += ["--cert-dir", str(layout.data / "kubelet-pki")]
        return [*command, "--root-dir", str(layout.data / "kubelet")]

    def kubelet_settings(self) -> dict[str, Any]:
        """Return the kubelet's configuration.

        Its API listens on loopback only: nobody else is to use this node.
        """
        layout = self._layout
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{layout.socket}",
            "staticPodPath": str(layout.manifests),
            "podLogsDir": str(layout.pod_logs),
            "healthzPort": self.kubelet_port,
            "address": LOOPBACK,
            "port": self.kubelet_api_port,
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": DOMAIN,
            "authentication": {"x509": {"clientCAFile": str(layout.api_data / "pki" / "ca.crt")}},
        }

    def controllers(self) -> list[str]:
        """Return that of the process of the controllers and the scheduler."""
        layout = self._layout
        names = ["*", "scheduler", *(["ingress-controller"] if self.ingress else [])]
        names += [f"-{name}" for name in OF_THE_SERVER]
        command = [*_module("controlplane.controllers"), f"--controllers={','.join(names)}"]
        command += ["--kubeconfig", str(layout.kubeconfig), "--no-leader-elect"]
        command += [f"--load-balancer-pool={BALANCERS}", f"--load-balancer-interface={BRIDGE}"]
        command += ["--healthz-port=-1", "--host-path-root", str(layout.data / "storage")]
        command += ["--host-path-class", STORAGE_CLASS]
        if self.ingress:
            command += ["--ingress-run-dir", str(layout.run / "ingress")]
            # Nobody else is to use this node.
            command += [f"--ingress-addresses={LOOPBACK}"]
        return command

    def proxy(self) -> list[str]:
        """Return that of the service proxy, which enforces NetworkPolicies, too.

        What the machine's administrator set for connection tracking is left alone.
        """
        layout = self._layout
        command = [*_module("proxy"), "--proxy-mode=nftables", "--enforce-network-policies"]
        command += ["--kubeconfig", str(layout.api_data / "proxy.kubeconfig")]
        command += ["--detect-local-mode=BridgeInterface", f"--pod-bridge-interface={BRIDGE}"]
        command += ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"]
        command += ["--conntrack-tcp-timeout-close-wait=0s", "--oom-score-adj=0"]
        health, metrics = self._proxy_ports
        command += [f"--healthz-bind-address={LOOPBACK}:{health}"]
        return [*command, f"--metrics-bind-address={LOOPBACK}:{metrics}"]

    def proxy_cleanup(self) -> list[str]:
        """Return the command that removes the rules of the proxy and of policies."""
        return [*_module("proxy"), "--cleanup", "--enforce-network-policies"]

    def dns(self) -> list[str]:
        """Return that of the cluster's DNS; it answers at the pods' bridge."""
        command = [*_module("controlplane.dns"), "--kubeconfig", str(self._layout.kubeconfig)]
        command += ["--bind-address", GATEWAY, "--port", str(self.dns_port)]
        return [*command, "--cluster-domain", DOMAIN, "--healthz-port=-1"]

    def metrics(self) -> list[str]:
        """Return that of the server of metrics; the API server asks it at the pods' bridge.

        The kubelet's certificate is of its own making; it is asked by loopback.
        """
        command = [*_module("controlplane.metrics_server"), "--kubelet-insecure-tls"]
        command += ["--kubeconfig", str(self._layout.kubeconfig), "--healthz-port=-1"]
        command += ["--bind-address", GATEWAY, "--advertise-address", GATEWAY]
        return [*command, "--secure-port=0", "--no-leader-elect"]


def _module(name: str) -> list[str]:
    """Return how a module is run; ``-P``: not that of a folder where we happen to be."""
    return [sys.executable, "-P", "-m", name]
