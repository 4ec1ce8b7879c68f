"""Which container, pod or image a person means (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias, TypeVar

import click

from kubeletpy_proto import cri_pb2 as cri

POD_LABELS: Final = ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name")
"""How a kubelet labels a container with its pod (as with the Go kubelet)."""

_SHOWN: Final = 5

_Item = TypeVar("_Item", cri.Container, cri.PodSandbox)
_Names: TypeAlias = Callable[[_Item], list[str]]


class NotOne(click.ClickException):
    """What was given names nothing, or several things."""


def container_names(container: cri.Container) -> list[str]:
    """Return the ways to name a container: ``name``, ``pod/name``, ``namespace/pod/name``."""
    namespace, pod = (container.labels.get(label, "") for label in POD_LABELS)
    name = container.metadata.name
    return [name, f"{pod}/{name}", f"{namespace}/{pod}/{name}"] if pod else [name]


def pod_names(pod: cri.PodSandbox) -> list[str]:
    """Return the ways to name a pod: ``name``, ``namespace/name``."""
    return [pod.metadata.name, f"{pod.metadata.namespace}/{pod.metadata.name}"]


def one_container(
    containers: Iterable[cri.Container], wanted: str, *, running: bool = False
) -> cri.Container:
    """Return the container that ``wanted`` (an id, the beginning of one, or a name) names.

    Of several with one name (a container that was restarted) a running one comes first, then the
    newest of the same pod.

    Args:
        containers: all there are.
        wanted: what was given.
        running: only a running one will do.

    Raises:
        NotOne: there is none, or several.
    """
    known = list(containers)
    found = _matching(known, wanted, container_names)
    alive = [item for item in found if item.state == cri.CONTAINER_RUNNING]
    if running and found and not alive:
        states = {cri.ContainerState.Name(item.state)[10:].lower() for item in found}
        raise NotOne(f"container {wanted!r} is not running ({', '.join(sorted(states))})")
    names = {(item.pod_sandbox_id, item.metadata.name) for item in alive or found}
    if len(names) == 1:
        found = [max(alive or found, key=lambda item: item.created_at)]
    elif alive:
        found = alive
    return _only(found, wanted, "container", "kubeletpy cri ps -a", container_names)


def one_pod(pods: Iterable[cri.PodSandbox], wanted: str) -> cri.PodSandbox:
    """Return the pod that ``wanted`` names; of several with one name a ready one comes first.

    Raises:
        NotOne: there is none, or several.
    """
    found = _matching(list(pods), wanted, pod_names)
    ready = [item for item in found if item.state == cri.SANDBOX_READY]
    names = {tuple(pod_names(item)) for item in ready or found}
    if len(names) == 1:
        found = [max(ready or found, key=lambda item: item.created_at)]
    return _only(found, wanted, "pod", "kubeletpy cri pods", pod_names)


def _matching(items: Sequence[_Item], wanted: str, names: _Names[_Item]) -> list[_Item]:
    exact = [item for item in items if item.id == wanted]
    named = [item for item in items if wanted in names(item)]
    begun = [item for item in items if wanted and item.id.startswith(wanted)]
    return exact or named or begun


def _only(
    found: Sequence[_Item],
    wanted: str,
    kind: str,
    command: str,
    names: _Names[_Item],
) -> _Item:
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotOne(f"there is no {kind} {wanted!r}: `{command}` lists them")
    shown = [f"{item.id[:13]} ({names(item)[-1]})" for item in found[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise NotOne(f"{wanted!r} could be {', '.join(shown)}{more}: give more of the id")
