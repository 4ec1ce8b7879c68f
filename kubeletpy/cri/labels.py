"""Labels and annotations by which a kubelet knows its pods again; the Go kubelet's names."""

from __future__ import annotations

import hashlib

import msgspec

from kubeletpy.api.codec import encode
from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

CONTAINER_HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP_HANDLER = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
POD_DELETION_GRACE = "io.kubernetes.pod.deletionGracePeriod"
POD_TERMINATION_GRACE = "io.kubernetes.pod.terminationGracePeriod"


def pod_labels(pod: Pod) -> dict[str, str]:
    """Labels of a sandbox: the pod's own, and its identity on top."""
    return {**pod.metadata.labels, **pod_identity(pod)}


def pod_identity(pod: Pod) -> dict[str, str]:
    """The labels that name a pod."""
    return {
        POD_NAME: pod.metadata.name,
        POD_NAMESPACE: pod.metadata.namespace,
        POD_UID: pod.metadata.uid,
    }


def container_labels(pod: Pod, container: Container) -> dict[str, str]:
    """Labels of a container; the pod's own labels are not repeated."""
    return {**pod_identity(pod), CONTAINER_NAME: container.name}


def container_hash(container: Container) -> str:
    """Hash of what makes a running container outdated when it changes: its name and image.

    As with the Go kubelet since 1.31, other fields of a container cannot change in place (or,
    like resources, without a restart); a static pod that changes becomes another pod.
    """
    identity = msgspec.json.encode([container.name, container.image])
    return hashlib.sha256(identity).hexdigest()[:8]


def container_annotations(pod: Pod, container: Container, attempt: int) -> dict[str, str]:
    """Annotations from which a container can be stopped and judged without its pod's spec."""
    annotations = {
        CONTAINER_HASH: container_hash(container),
        RESTART_COUNT: str(attempt),
        TERMINATION_MESSAGE_PATH: container.termination_message_path,
        TERMINATION_MESSAGE_POLICY: container.termination_message_policy,
    }
    if pod.metadata.deletion_grace_period_seconds is not None:
        annotations[POD_DELETION_GRACE] = str(pod.metadata.deletion_grace_period_seconds)
    if pod.spec.termination_grace_period_seconds is not None:
        annotations[POD_TERMINATION_GRACE] = str(pod.spec.termination_grace_period_seconds)
    if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
        annotations[PRE_STOP_HANDLER] = encode(container.lifecycle.pre_stop).decode()
    if container.ports:
        annotations[PORTS] = encode(list(container.ports)).decode()
    return annotations
