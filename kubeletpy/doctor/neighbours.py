"""Other nodes' programs on this machine: two kubelets or two proxies undo each other's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.processes import Process, processes
from kubeletpy.doctor.purpose import Purpose

# A node of Kubernetes, and how it is stopped for good.
_NODES: Final = {
    "kubelet": "systemctl disable --now kubelet; of kubeadm: kubeadm reset",
    "kube-proxy": "kubectl -n kube-system delete daemonset kube-proxy; kube-proxy --cleanup",
    "k3s": "systemctl disable --now k3s k3s-agent; k3s-killall.sh",
    "k3s-server": "systemctl disable --now k3s; k3s-killall.sh",
    "k3s-agent": "systemctl disable --now k3s-agent; k3s-killall.sh",
    "rke2": "systemctl disable --now rke2-server rke2-agent; rke2-killall.sh",
    "k0s": "k0s stop && k0s reset",
    "kubelite": "microk8s stop",
}
_SERVERS: Final = {
    "kube-apiserver": "kubeadm reset, or stop whatever starts it",
    "etcd": "systemctl disable --now etcd (only its ports 2379 and 2380 matter)",
}
# They have state and cgroups of their own, and do no harm.
_RUNTIMES: Final = ("containerd", "dockerd", "crio", "podman", "cri-dockerd")


@dataclass(frozen=True)
class Facts:
    """Processes of other programs."""

    others: tuple[Process, ...]


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    known = {*_NODES, *_SERVERS, *_RUNTIMES}
    return Facts(tuple(one for one in processes() if one.name in known and not one.ours))


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [_nodes(facts, purpose), _runtimes(facts)]


def _nodes(facts: Facts, purpose: Purpose) -> Finding:
    stops = {**_NODES, **(_SERVERS if purpose.name == "server" else {})}
    found = [one for one in facts.others if one.name in stops]
    if not found:
        return fine("other nodes", "none runs here", "kubelet, proxy")
    listed = ", ".join(map(str, found))
    remedy = "; ".join(dict.fromkeys(stops[one.name] for one in found))
    if not purpose.installed:
        said = f"{listed}: `kubeletpy up` runs beside it, with a pod network of its own"
        return warning("other nodes", said, "kubelet, proxy", remedy)
    said = f"{listed}: both would have the same ports, cgroups and rules"
    return error("other nodes", said, "kubelet, proxy", remedy)


def _runtimes(facts: Facts) -> Finding:
    found = [one for one in facts.others if one.name in _RUNTIMES]
    listed = ", ".join(map(str, found))
    said = f"{listed}: runs beside ours, with containers of its own" if found else "none runs here"
    return fine("other runtimes", said, "runtime")
