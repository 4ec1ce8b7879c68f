"""Command lines of the services (pure)."""

from __future__ import annotations

import ipaddress
import sys
from typing import Final

from kubeletpy.install import places
from kubeletpy.install.installation import NodeInstallation, ServerChoice
from kubeletpy.up.commands import OF_THE_SERVER, STORAGE_CLASS

DNS_PORT: Final = 10053
"""Of the cluster's DNS at the server's address; the Service has 53. Port 53 is often another's."""
METRICS_PORT: Final = 4443
INGRESS: Final = "kubeletpy-ingress"
"""Directory below /run of the nginx that serves Ingresses."""
CREDENTIAL: Final = "%d/kubeconfig"
AUTHORITY: Final = "%d/authority"
"""What systemd gives to a service that may not read the file itself (LoadCredential=)."""
_NAMED: Final = (
    *("scheduler", "metrics-server", "bootstrap-signer-controller", "token-cleaner-controller"),
    "kubelet-serving-approving-controller",
)
"""What runs only where it is named."""


def apiserver(one: NodeInstallation) -> list[str]:
    """Return that of the API server; it listens on all addresses, pods reach it by any of them."""
    server = _server(one)
    everywhere = "::" if _is_v6(server.advertise_address) else "0.0.0.0"
    command = [*one.program, "apiserver", f"--data-dir={places.APISERVER}"]
    command += [f"--bind-address={everywhere}", f"--secure-port={server.port}"]
    command += [f"--advertise-address={server.advertise_address}"]
    command += [f"--node-name={one.node_name}", f"--tls-san={one.node_name}"]
    if one.cluster.service_cidrs:
        command += [f"--service-cluster-ip-range={','.join(one.cluster.service_cidrs)}"]
    command += ["--kubelet-certificate-authority=own"]
    # Names of nodes need not be in this machine's DNS.
    return [*command, "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname"]


def controllers(one: NodeInstallation) -> list[str]:
    """Return that of the process of controllers, scheduler and metrics."""
    server = _server(one)
    names = ["*", *_NAMED, *(f"-{name}" for name in OF_THE_SERVER)]
    if not server.storage:
        names.append("-volume-provisioner")
    if server.ingress:
        names.append("ingress-controller")
    command = [*one.program, "controllers", f"--kubeconfig={CREDENTIAL}"]
    command += [f"--controllers={','.join(names)}", "--no-leader-elect"]
    if one.cluster.pod_cidrs:
        command += ["--allocate-node-cidrs", f"--cluster-cidr={','.join(one.cluster.pod_cidrs)}"]
        command += [f"--service-cluster-ip-range={','.join(one.cluster.service_cidrs)}"]
    if server.storage:
        command += [f"--host-path-root={places.STORAGE}", f"--host-path-class={STORAGE_CLASS}"]
    if server.ingress:
        # Its workers are of the account of the service.
        command += [f"--ingress-run-dir=/run/{INGRESS}", "--ingress-nginx-user="]
        command += [f"--ingress-publish-addresses={server.advertise_address}"]
    if server.balancer_pool:
        command += [f"--load-balancer-pool={','.join(server.balancer_pool)}"]
    if server.balancer_link:
        command += [f"--load-balancer-interface={server.balancer_link}"]
    command += [f"--metrics-bind-address={server.advertise_address}"]
    command += [f"--metrics-advertise-address={server.advertise_address}"]
    command += [f"--metrics-secure-port={METRICS_PORT}"]
    return [*command, "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            f"--kubelet-certificate-authority={AUTHORITY}"]  # fmt: skip


def dns(one: NodeInstallation) -> list[str]:
    """Return that of the cluster's DNS, which all nodes reach at the server's address.

    Who is not of the cluster is refused: that address may be one that everybody reaches.
    """
    server = _server(one)
    command = [*one.program, "dns", f"--kubeconfig={CREDENTIAL}"]
    command += [f"--bind-address={server.advertise_address}", f"--port={DNS_PORT}"]
    sources = ["cluster", *one.cluster.pod_cidrs, *server.dns_clients]
    command += [f"--allow-from={source}" for source in sources]
    command += [f"--cluster-domain={one.cluster.domain}"]
    return [*command, f"--resolv-conf={one.resolv_conf}"] if one.resolv_conf else command


def runtime(one: NodeInstallation) -> list[str]:
    """Return that of the container runtime."""
    command = [*one.program, "runtime", f"--config={places.RUNTIME}"]
    command += [f"--address=unix://{places.SOCKET}", f"--root={places.DATA}/runtime"]
    return [*command, f"--state={places.RUN}/runtime"]


def kubelet(one: NodeInstallation) -> list[str]:
    """Return that of the kubelet.

    Without a kubeconfig of its own it asks for a certificate: on a server with that which the API
    server keeps for this machine, elsewhere with a token. One that was given is used as it is.
    """
    command = [*one.program, "kubelet", f"--config={places.KUBELET}"]
    command += [f"--kubeconfig={places.KUBECONFIG}"]
    if one.server is not None:
        command += [f"--bootstrap-kubeconfig={places.APISERVER}/kubelet.kubeconfig"]
    elif not one.kubeconfig:
        command += [f"--bootstrap-kubeconfig={places.BOOTSTRAP}"]
    command += [f"--root-dir={places.DATA}/kubelet", f"--cert-dir={places.DATA}/kubelet/pki"]
    command += [f"--hostname-override={one.node_name}"]
    if one.node_ip:
        command += [f"--node-ip={one.node_ip}"]
    if one.labels:
        command += [f"--node-labels={','.join(one.labels)}"]
    return command


def proxy(one: NodeInstallation) -> list[str]:
    """Return that of the service proxy, which enforces NetworkPolicies, too."""
    command = [*one.program, "proxy", f"--config={places.PROXY}", "--enforce-network-policies"]
    return [*command, *pod_network_flags(one)]


def proxy_cleanup() -> list[str]:
    """Return the command that removes the proxy's rules, those of policies, and routes of pods.

    It is run by this interpreter: the installed program may be gone already.
    """
    command = [sys.executable, "-P", "-m", "proxy", "--cleanup"]
    return [*command, "--enforce-network-policies", "--pod-network=auto"]


def pod_network_flags(one: NodeInstallation) -> list[str]:
    """Return the proxy's flags for the routes to the pods of other nodes.

    They are made where ours is the network of pods, of which the cluster's networks are known.
    """
    ours = one.own_runtime and one.cluster.pod_cidrs and one.pod_network != "none"
    return [f"--pod-network={one.pod_network}"] if ours else []


def _server(one: NodeInstallation) -> ServerChoice:
    if one.server is None:
        raise ValueError("no server")
    return one.server


def _is_v6(address: str) -> bool:
    return ipaddress.ip_address(address).version == 6
