"""Which controllers there are, and which of them run.

Source: kube-controller-manager's flag ``--controllers``: ``*`` is all that run by default (not what
is a process of its own elsewhere), ``foo``
is one, ``-foo`` is not that one, the first that fits a name decides. Names of earlier versions
are understood, too.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

from controlplane.engine.controller import Context
from controlplane.engine.host import Make, Part

_HERE: Final = "controlplane.controllers"

_CLASSES: Final = {
    "certificatesigningrequest-approving-controller": "certificates.approver:Approver",
    "certificatesigningrequest-cleaner-controller": "certificates.cleaner:Cleaner",
    "certificatesigningrequest-signing-controller": "certificates.signer:Signer",
    "cronjob-controller": "cronjob.controller:CronJobController",
    "daemonset-controller": "daemonset.controller:DaemonSetController",
    "deployment-controller": "deployment.controller:DeploymentController",
    "disruption-controller": "disruption.controller:DisruptionController",
    "endpoints-controller": "endpoints.controller:EndpointsController",
    "endpointslice-controller": "endpointslice.controller:EndpointSliceController",
    "endpointslice-mirroring-controller": "endpointslicemirroring.controller:MirroringController",
    "garbage-collector-controller": "garbage.controller:GarbageCollector",
    "horizontal-pod-autoscaler-controller": "autoscaling.controller:AutoscalerController",
    "job-controller": "job.controller:JobController",
    "namespace-controller": "namespaces.controller:NamespaceController",
    "node-ipam-controller": "nodeipam.controller:NodeIpamController",
    "node-lifecycle-controller": "nodelifecycle.controller:NodeLifecycleController",
    "persistentvolume-binder-controller": "volumes.binder:Binder",
    "persistentvolume-expander-controller": "volumes.expander:Expander",
    "persistentvolume-protection-controller": "volumes.protection:VolumeProtection",
    "persistentvolumeclaim-protection-controller": "volumes.protection:ClaimProtection",
    "ephemeral-volume-controller": "volumes.ephemeral:EphemeralVolumes",
    "pod-garbage-collector-controller": "podgc.controller:PodGarbageCollector",
    "replicaset-controller": "replicaset.controller:ReplicaSetController",
    "replicationcontroller-controller": "replicaset.controller:ReplicationControllerController",
    "resourcequota-controller": "quota.controller:QuotaController",
    "root-ca-certificate-publisher-controller": "furnishing.controller:RootCertificates",
    "service-lb-controller": "loadbalancer.controller:LoadBalancerController",
    "serviceaccount-controller": "furnishing.controller:DefaultAccounts",
    "serviceaccount-token-controller": "furnishing.tokens:TokenController",
    "statefulset-controller": "statefulset.controller:StatefulSetController",
    "taint-eviction-controller": "tainteviction.controller:TaintEvictionController",
    "ttl-after-finished-controller": "ttl.controller:TtlController",
    "volume-provisioner": "volumes.provisioner:Provisioner",
}
"""By name: module, below this package, and class."""

_OTHERS: Final = {
    "bootstrap-signer-controller": f"{_HERE}.bootstrap.signer:BootstrapSigner",
    "ingress-controller": "controlplane.ingress.controller:IngressController",
    "kubelet-serving-approving-controller": f"{_HERE}.certificates.serving:ServingApprover",
    "metrics-server": "controlplane.metrics_server.server:MetricsServer",
    "scheduler": "controlplane.scheduler.scheduler:Scheduler",
    "token-cleaner-controller": f"{_HERE}.bootstrap.cleaner:TokenCleaner",
}
"""What runs only where it is named: processes of their own elsewhere, which one that is to be small
can have in it; what kube-controller-manager does not run by default, or leaves to people."""

_ALIASES: Final = {
    "bootstrapsigner": "bootstrap-signer-controller",
    "csrapproving": "certificatesigningrequest-approving-controller",
    "csrcleaner": "certificatesigningrequest-cleaner-controller",
    "csrsigning": "certificatesigningrequest-signing-controller",
    "cronjob": "cronjob-controller",
    "daemonset": "daemonset-controller",
    "deployment": "deployment-controller",
    "disruption": "disruption-controller",
    "endpoint": "endpoints-controller",
    "endpointslice": "endpointslice-controller",
    "endpointslicemirroring": "endpointslice-mirroring-controller",
    "ephemeral-volume": "ephemeral-volume-controller",
    "garbagecollector": "garbage-collector-controller",
    "horizontalpodautoscaling": "horizontal-pod-autoscaler-controller",
    "job": "job-controller",
    "namespace": "namespace-controller",
    "nodeipam": "node-ipam-controller",
    "nodelifecycle": "node-lifecycle-controller",
    "persistentvolume-binder": "persistentvolume-binder-controller",
    "persistentvolume-expander": "persistentvolume-expander-controller",
    "podgc": "pod-garbage-collector-controller",
    "pv-protection": "persistentvolume-protection-controller",
    "pvc-protection": "persistentvolumeclaim-protection-controller",
    "replicaset": "replicaset-controller",
    "replicationcontroller": "replicationcontroller-controller",
    "resourcequota": "resourcequota-controller",
    "root-ca-cert-publisher": "root-ca-certificate-publisher-controller",
    "service": "service-lb-controller",
    "serviceaccount": "serviceaccount-controller",
    "serviceaccount-token": "serviceaccount-token-controller",
    "statefulset": "statefulset-controller",
    "tokencleaner": "token-cleaner-controller",
    "ttl-after-finished": "ttl-after-finished-controller",
}


class UnknownControllerError(ValueError):
    """A word of ``--controllers`` names no controller."""


def names() -> list[str]:
    """Return the names of all controllers, sorted."""
    return sorted(name for name in _CLASSES if _is_there(name)) + sorted(_OTHERS)


def selected(wanted: Sequence[str]) -> list[str]:
    """Return the names of the controllers that run, sorted.

    Args:
        wanted: the words of the flag, in order.

    Raises:
        UnknownControllerError: a word names no controller.
    """
    rules: list[str] = []
    for word in wanted:
        minus = "-" if word.startswith("-") else ""
        name = word.removeprefix("-")
        name = _ALIASES.get(name, name)
        if name not in _CLASSES and name not in _OTHERS and word != "*":
            raise UnknownControllerError(
                f"--controllers: {word!r} is no controller; there are *, {', '.join(names())}, "
                "each also with - before it"
            )
        rules.append(minus + name)
    return [name for name in names() if _runs(name, rules)]


def kind_of(name: str) -> Any:
    """Return the class of a controller; its module is imported then."""
    place = _OTHERS.get(name) or f"{_HERE}.{_CLASSES[name]}"
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def make(name: str) -> Make:
    """Return what makes the controller of a name."""

    def made(context: Context) -> Part:
        part: Part = kind_of(name)(replace(context, recorder=context.recorder.of(name)))
        return part

    return made


def _runs(name: str, rules: list[str]) -> bool:
    if name in rules:
        return True
    return f"-{name}" not in rules and "*" in rules and name not in _OTHERS


def _is_there(name: str) -> bool:
    module = _CLASSES[name].partition(":")[0]
    package, _, rest = module.partition(".")
    found = find_spec(f"{_HERE}.{package}")
    return found is not None and (not rest or find_spec(f"{_HERE}.{module}") is not None)
