"""The scheduler without a server: objects are put into its informers, decisions are read off."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Coroutine
from typing import Any

from controlplane.engine.controller import Context
from controlplane.engine.informer import Informer, Informers
from controlplane.engine.recorder import Recorder
from controlplane.engine.resources import NODES, PODS, Object, Resource, key_of
from controlplane.engine.writes import Writer
from controlplane.scheduler.configuration import Configuration
from controlplane.scheduler.pods import PodInfo
from controlplane.scheduler.preemption import Candidate
from controlplane.scheduler.scheduler import Scheduler


class Bench:
    """A scheduler whose writes go nowhere.

    Args:
        configuration: of it.

    Attributes:
        scheduler: itself.
        told: of pods that have no node: name and message.
        given: nodes by the names of pods.
        victims: names of the pods that were to go, for the last pod.
    """

    def __init__(self, configuration: Configuration | None = None) -> None:
        self._versions = itertools.count(1)
        client: Any = None
        informers = Informers(client)
        options = {"scheduler_configuration": configuration} if configuration else {}
        context = Context(
            client, informers.view(), Recorder("test", None), Writer(client, informers), options
        )
        self._informers = informers
        self.scheduler = Scheduler(context)
        self.told: list[tuple[str, str]] = []
        self.given: dict[str, str] = {}
        self.victims: list[str] = []
        self.scheduler._spawn = self._drop  # type: ignore[method-assign]
        self.scheduler._reporter.failed = self._failed  # type: ignore[method-assign]
        make_room = self.scheduler._make_room

        def room(pod: PodInfo, candidate: Candidate) -> None:
            self.victims = sorted(one.pod["metadata"]["name"] for one in candidate.victims)
            make_room(pod, candidate)

        self.scheduler._make_room = room  # type: ignore[method-assign]

    def _drop(self, work: Coroutine[Any, Any, None], what: str) -> None:
        work.close()

    def _failed(self, pod: PodInfo, message: str) -> None:
        self.told.append((pod.pod["metadata"]["name"], message))

    def informer(self, resource: Resource) -> Informer:
        """Return an informer of the scheduler."""
        return self._informers.of(resource)

    def put(self, resource: Resource, value: Object) -> Object:
        """Take an object as the server would tell of it."""
        made = copy.deepcopy(value)
        meta = made["metadata"]
        made.setdefault("apiVersion", resource.group_version)
        made.setdefault("kind", resource.kind)
        if resource.namespaced:
            meta.setdefault("namespace", "default")
        meta.setdefault("uid", f"uid-{resource.plural}-{meta.get('namespace')}-{meta['name']}")
        meta["resourceVersion"] = str(next(self._versions))
        if resource is PODS:
            made.setdefault("status", {"phase": "Pending"})
        self.informer(resource)._put(key_of(made), made)
        return made

    def remove(self, resource: Resource, name: str, namespace: str = "default") -> None:
        """Let an object go."""
        key = f"{namespace}/{name}" if resource.namespaced else name
        self.informer(resource)._put(key, None)

    def place(self) -> None:
        """Try all pods whose turn it is, and take the nodes that they get."""
        while (one := self.scheduler.queue.pop()) is not None:
            self.scheduler._attempt(one)
            placed = self.scheduler.cluster.pod(one.pod.uid)
            if placed is not None:
                self.given[one.pod.pod["metadata"]["name"]] = placed.node
                self.scheduler._under_way.discard(one.pod.uid)

    def confirm(self) -> None:
        """Bind the pods that were given nodes."""
        for pod in list(self.informer(PODS)):
            known = self.scheduler.cluster.pod(pod["metadata"]["uid"])
            if known is not None and not pod["spec"].get("nodeName"):
                bound = copy.deepcopy(pod)
                bound["spec"]["nodeName"] = known.node
                self.put(PODS, bound)

    def nodes(self, *values: Object) -> None:
        """Take nodes."""
        for value in values:
            self.put(NODES, value)
