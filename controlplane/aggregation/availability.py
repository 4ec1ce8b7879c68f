"""Whether extension servers answer: the condition ``Available`` of their APIServices.

Each is asked for the resources of its version: at once when something about it changes, every
half a minute otherwise, and again soon after it failed.

Source: Kubernetes, kube-aggregator's availability controller: reasons, messages, times.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from controlplane.aggregation.discovery import resources_of
from controlplane.aggregation.forwarding import ExtensionBackends, Forwarder, headers_of
from controlplane.aggregation.registered import Registered, service_of_slice
from controlplane.aggregation.resolving import ResolveError, obstacle
from controlplane.api import codec, metadata
from controlplane.api.errors import ApiError
from controlplane.api.identity import MASTERS, User
from controlplane.api.resource import Context, Object
from controlplane.builtin.following import follow
from controlplane.engine.queue import WorkQueue
from controlplane.kinds.strategies.apiregistration import local_condition
from controlplane.plane import Plane
from controlplane.store.model import Item

RESYNC: Final = 30.0
"""Seconds after which one that is well is asked again."""
_FIRST_PAUSE: Final = 0.1
_ATTEMPTS: Final = 5
_SECONDS: Final = 5.0
_LARGEST: Final = 4 << 20
_AGGREGATOR: Final = User("system:kube-aggregator", "", (MASTERS,))


class CheckError(Exception):
    """An extension server does not answer as it should; the text says how."""


class Availability:
    """Asks extension servers.

    Args:
        plane: the parts.
        registered: the APIServices.
        forwarder: knows where they are.
        backends: to connect by.

    Attributes:
        known: by group and version: whether it answers, and its resources as last told.
    """

    def __init__(
        self, plane: Plane, registered: Registered, forwarder: Forwarder,
        backends: ExtensionBackends,
    ) -> None:  # fmt: skip
        self._plane = plane
        self._registered = registered
        self._forwarder = forwarder
        self._backends = backends
        self._failures: dict[str, int] = {}
        self.queue = WorkQueue("availability of APIServices", self._look)
        self.known: dict[tuple[str, str], tuple[bool, list[Object]]] = {}

    async def run(self) -> None:
        """Ask, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.queue.run())
            tasks.create_task(self._follow_services())
            tasks.create_task(self._follow(self._of_service()))
            tasks.create_task(self._follow(self._of_slices()))

    async def _follow_services(self) -> None:
        async for change in follow(self._plane.store, self._registered.resource.prefix):
            name = change.key.rpartition("/")[2]
            if change.item is None:
                self._backends.forget()
                self._failures.pop(name, None)
                version, _, group = name.partition(".")
                self.known.pop((group, version), None)
            elif change.previous is not None and _same_spec(change.item, change.previous):
                # Mostly what was written here.
                continue
            self.queue.add(name)

    async def _follow(self, changed: AsyncIterator[tuple[str, str]]) -> None:
        async for namespace, service in changed:
            for name in self._registered.of_service(namespace, service):
                self.queue.add(name)

    async def _of_service(self) -> AsyncIterator[tuple[str, str]]:
        async for change in follow(self._plane.store, self._registered.services.prefix):
            namespace, _, name = change.key.removeprefix(
                self._registered.services.prefix
            ).partition("/")
            yield namespace, name

    async def _of_slices(self) -> AsyncIterator[tuple[str, str]]:
        async for change in follow(self._plane.store, self._registered.slices_prefix):
            item = change.item or change.previous
            if item is not None:
                yield service_of_slice(item.value)

    async def _look(self, name: str) -> float | None:
        value = self._registered.get(name)
        if value is None:
            return None
        spec = value["spec"]
        if not spec.get("service"):
            await self._tell(value, local_condition(metadata.now()))
            return None
        group, version = spec.get("group", ""), spec["version"]
        try:
            answer = await self._ask(value)
        except _Obstacle as error:
            self._fail(group, version)
            await self._tell(value, _condition("False", error.reason, str(error)))
            return RESYNC
        except CheckError as error:
            self._fail(group, version)
            await self._tell(value, _condition("False", "FailedDiscoveryCheck", str(error)))
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            pause: float = _FIRST_PAUSE * 2.0 ** min(failures - 1, 20)
            return min(pause, RESYNC)
        self._failures.pop(name, None)
        self.known[group, version] = (True, resources_of(answer, group, version))
        await self._tell(value, _condition("True", "Passed", "all checks passed"))
        return RESYNC

    def _fail(self, group: str, version: str) -> None:
        self.known[group, version] = (False, self.known.get((group, version), (False, []))[1])

    async def _ask(self, value: Object) -> Any:
        """Return what an extension server tells of its version; the first of several answers.

        Raises:
            _Obstacle: it cannot be asked.
            CheckError: it did not answer well, in several attempts.
        """
        wanted = value["spec"]["service"]
        namespace, name = wanted["namespace"], wanted["name"]
        found = obstacle(
            value["spec"],
            self._registered.service(namespace, name),
            self._registered.slices(namespace, name),
        )
        if found is not None:
            raise _Obstacle(*found)
        error: CheckError | None = None
        attempts = [asyncio.create_task(self._attempt(value)) for _ in range(_ATTEMPTS)]
        try:
            for attempt in asyncio.as_completed(attempts):
                try:
                    return await attempt
                except CheckError as failed:
                    error = failed
        finally:
            for task in attempts:
                task.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)
        assert error is not None
        raise error

    async def _attempt(self, value: Object) -> Any:
        spec = value["spec"]
        try:
            target = self._forwarder.extension(value)
        except ResolveError as error:
            raise CheckError(str(error)) from error
        group, version = spec.get("group", ""), spec["version"]
        url = f"{target.url}/apis/{group}/{version}" if group else f"{target.url}/api/{version}"
        try:
            context = self._backends.context(target)
            assert context is not None
            async with (
                asyncio.timeout(_SECONDS),
                self._backends.client.get(
                    URL(url, encoded=True), ssl=context, server_hostname=target.server_name,
                    headers=headers_of(_AGGREGATOR), allow_redirects=False,
                ) as answer,
            ):  # fmt: skip
                if not 200 <= answer.status < 300:
                    raise CheckError(f"failing or missing response from {url}: bad status from "
                                     f"{url}: {answer.status}")  # fmt: skip
                raw = await answer.content.read(_LARGEST)
        except TimeoutError as error:
            raise CheckError(f"timed out waiting for {url}") from error
        except (aiohttp.ClientError, OSError, ValueError, ApiError) as error:
            why = str(error) or type(error).__name__
            raise CheckError(f"failing or missing response from {url}: {why}") from error
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # It answers, and has said nothing that we can tell others.
            return None

    async def _tell(self, value: Object, condition: Object) -> None:
        if changed(value, condition) is None:
            return

        async def change(old: Object) -> Object:
            return changed(old, condition) or old

        meta = value["metadata"]
        context = Context(name=meta["name"], now=metadata.now(), manager="kube-apiserver",
                          subresource="status")  # fmt: skip
        try:
            await self._plane.registry.update(
                self._registered.resource, "", meta["name"], change, context
            )
        except ApiError as error:
            if error.reason != "NotFound":
                raise


class _Obstacle(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def changed(value: Object, condition: Object) -> Object | None:
    """Return an APIService with a condition; None: it has that already (pure)."""
    new = copy.deepcopy(value)
    listed: list[Object] = new.setdefault("status", {}).setdefault("conditions", [])
    for one in listed:
        if one["type"] == condition["type"]:
            same = {"status", "reason", "message"}
            if all(one.get(key) == condition[key] for key in same):
                return None
            if one["status"] == condition["status"]:
                condition = {**condition, "lastTransitionTime": one.get("lastTransitionTime")}
            one.clear()
            one.update(condition)
            return new
    listed.append(condition)
    return new


def _same_spec(new: Item, old: Item) -> bool:
    return bool(codec.decode(new)["spec"] == codec.decode(old)["spec"])


def _condition(status: str, reason: str, message: str) -> Object:
    return {"type": "Available", "status": status, "lastTransitionTime": metadata.now(),
            "reason": reason, "message": message}  # fmt: skip
