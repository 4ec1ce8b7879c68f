"""Which pods and containers a client wants to see (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.statuses import container_state, sandbox_state
from runtime.state.store import Container, Pod


def matches_labels(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether every label of ``selector`` is there with the same value."""
    return all(labels.get(key) == value for key, value in selector.items())


def matches_pod(wanted: cri.PodSandboxFilter, pod: Pod) -> bool:
    """Tell whether a pod passes the filter; an empty filter lets all pass."""
    return (
        (not wanted.id or pod.id.startswith(wanted.id))
        and (not wanted.HasField("state") or sandbox_state(pod) == wanted.state.state)
        and matches_labels(wanted.label_selector, pod.config.labels)
    )


def matches_container(wanted: cri.ContainerFilter, container: Container) -> bool:
    """Tell whether a container passes the filter; an empty filter lets all pass."""
    return (
        (not wanted.id or container.id.startswith(wanted.id))
        and (not wanted.HasField("state") or container_state(container) == wanted.state.state)
        and (not wanted.pod_sandbox_id or container.pod.id.startswith(wanted.pod_sandbox_id))
        and matches_labels(wanted.label_selector, container.config.labels)
    )


def matches_container_stats(wanted: cri.ContainerStatsFilter, container: Container) -> bool:
    """Tell whether the statistics of a container pass the filter."""
    return matches_container(
        cri.ContainerFilter(
            id=wanted.id,
            pod_sandbox_id=wanted.pod_sandbox_id,
            label_selector=wanted.label_selector,
        ),
        container,
    )


def matches_pod_stats(wanted: cri.PodSandboxStatsFilter, pod: Pod) -> bool:
    """Tell whether the statistics of a pod pass the filter."""
    return matches_pod(
        cri.PodSandboxFilter(id=wanted.id, label_selector=wanted.label_selector), pod
    )
