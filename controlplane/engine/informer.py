"""A resource of the API server kept in memory: listed once, then watched.

Controllers decide by what is in memory. That lags behind the server, and a controller that does
not see the pod that it has just made would make one more. Other clients keep "expectations" of
what they will see; here each answer to a write is *learned*: the object is in memory before the
write returns. Resource versions of one resource grow (KEP-5504), so what comes by the watch later
than it was learned, and is older, is told apart and dropped. Where an answer was lost nobody
knows whether the write was done: the server is asked (`certain`) before anything else is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.reflector import LISTED, Changed, Reflector, Synced

from .resources import Object, Resource, key_of, version_of

PAGE: Final = 500
"""Objects asked for at once."""
Listener = Callable[[Object | None, Object | None], None]
"""Is told of a change: what was before and what is now; None: it is not there."""
Trim = Callable[[Object], None]
"""Takes away from an object what nobody here needs."""


_Key = tuple[Resource, str, str]


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""


class _Head(msgspec.Struct):
    metadata: _Meta


def without_managers(value: Object) -> None:
    """Take away who manages which field: it is half of many objects."""
    value["metadata"].pop("managedFields", None)


class Informer:
    """The objects of one resource.

    Args:
        client: of the API server.
        resource: to follow.
        field_selector, label_selector: what of it.
        namespace: only this one; "": all.
        trim: applied to each object that comes.

    Attributes:
        resource: that is followed.
        synced: set once the first list is there.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: Resource,
        *,
        field_selector: str = "",
        label_selector: str = "",
        namespace: str = "",
        trim: Trim = without_managers,
    ) -> None:
        self._client = client
        self._selectors = {"field_selector": field_selector, "label_selector": label_selector}
        self._path = resource.path(namespace)
        self._trim = trim
        self._objects: dict[str, Object] = {}
        self._namespaces: dict[str, dict[str, Object]] = {}
        self._indexes: dict[str, _Index] = {}
        self._listeners: list[Listener] = []
        self._seen = 0
        self._gone: set[str] = set()
        self._reflector: Reflector | None = None
        self._doubted = False
        self._asking = asyncio.Lock()
        self.resource = resource
        self.synced = asyncio.Event()

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    @property
    def error(self) -> ApiError | None:
        """Why the server is not followed at the moment; None if it is."""
        return self._reflector.error if self._reflector is not None else None

    def get(self, key: str) -> Object | None:
        """Return the object of a key (``namespace/name``), None if there is none."""
        return self._objects.get(key)

    def find(self, namespace: str, name: str) -> Object | None:
        """Return the object of a name, None if there is none."""
        return self._objects.get(f"{namespace}/{name}" if namespace else name)

    def of_namespace(self, namespace: str) -> list[Object]:
        """Return all objects of a namespace."""
        return list(self._namespaces.get(namespace, {}).values())

    def index(self, name: str, function: Callable[[Object], Iterable[str]]) -> None:
        """Keep objects by values that ``function`` gives for each (pure).

        A second call with the same name changes nothing: several controllers share an informer.
        """
        if name not in self._indexes:
            made = self._indexes[name] = _Index(function)
            for key, value in self._objects.items():
                made.change(key, None, value)

    def indexed(self, name: str, value: str) -> list[Object]:
        """Return the objects for which the function of index ``name`` gives ``value``."""
        keys = self._indexes[name].keys.get(value, ())
        return [self._objects[key] for key in keys]

    def listen(self, listener: Listener) -> None:
        """Be told of each change, also of what is there already. It must not wait."""
        self._listeners.append(listener)
        for value in self:
            listener(None, value)

    def learn(self, value: Object) -> None:
        """Take an object that the server answered to a write, or to a GET."""
        self._trim(value)
        key, version = key_of(value), version_of(value)
        known = self._objects.get(key)
        newest = version_of(known) if known is not None else self._seen
        if version <= newest or value["metadata"].get("uid") in self._gone:
            return
        self._put(key, value)

    def forget(self, value: Object) -> None:
        """Take note that an object is gone: the server said so to whoever deleted it."""
        uid = value["metadata"].get("uid", "")
        known = self._objects.get(key_of(value))
        if known is not None and known["metadata"].get("uid") == uid:
            # The watch will tell older states of it, until it tells the end.
            self._gone.add(uid)
            self._put(key_of(value), None)

    def doubt(self) -> None:
        """Take note that a write got no answer: `certain` will ask the server."""
        self._doubted = True

    async def certain(self) -> None:
        """Bring memory to the state of the server as it is now, if a write got no answer.

        Raises:
            ApiError: the server does not answer now either.
        """
        if not self._doubted:
            return
        async with self._asking:
            if self._doubted:
                self._doubted = False
                try:
                    await self._refresh()
                except BaseException:
                    self._doubted = True
                    raise

    async def _refresh(self) -> None:
        answer = await self._client.get(self._path, params=self._params())
        kind, version = self.resource.kind, self.resource.group_version
        items = [{"apiVersion": version, "kind": kind, **one} for one in answer.get("items") or ()]
        for one in items:
            self._trim(one)
        self._replace(items, version_of(answer))

    def _params(self) -> dict[str, str]:
        names = (("fieldSelector", "field_selector"), ("labelSelector", "label_selector"))
        return {name: self._selectors[one] for name, one in names if self._selectors[one]}

    async def run(self) -> None:
        """Follow the server, until cancelled."""
        reflector = Reflector(
            self._client, self._path, field_selector=self._selectors["field_selector"],
            label_selector=self._selectors["label_selector"], read=self._read, page=PAGE,
        )  # fmt: skip
        self._reflector = reflector
        async for each in reflector:
            if isinstance(each, Synced):
                self._gone.clear()
                self._replace(each.items, int(each.version) if each.version.isdecimal() else 0)
                self.synced.set()
            else:
                self._take(each)

    def _read(self, what: str, raw: msgspec.Raw) -> Object:
        """Decode an object, unless it is known: what this process wrote comes back by the watch."""
        if what not in (LISTED, "DELETED"):
            head = msgspec.json.decode(raw, type=_Head).metadata
            known = self.find(head.namespace, head.name)
            if known is not None and known["metadata"]["resourceVersion"] == head.resourceVersion:
                return known
        value: Object = msgspec.json.decode(raw)
        # Items of a list do not carry it.
        value.setdefault("kind", self.resource.kind)
        value.setdefault("apiVersion", self.resource.group_version)
        self._trim(value)
        return value

    def _take(self, change: Changed) -> None:
        value: Object = change.object
        key, version, uid = key_of(value), version_of(value), value["metadata"].get("uid", "")
        known = self._objects.get(key)
        older = version <= self._seen
        self._seen = max(self._seen, version)
        if change.kind == "DELETED":
            self._gone.discard(uid)
            if known is not None and known["metadata"].get("uid") == uid:
                self._put(key, None)
            return
        if uid in self._gone or (known is None and older):
            return
        if known is None or version > version_of(known) or not version:
            self._put(key, value)

    def _replace(self, items: list[Object], version: int) -> None:
        """Take a whole list; what was learned after it stays."""
        there = {key_of(value): value for value in items}
        for key, known in list(self._objects.items()):
            if key not in there and (not version or version_of(known) <= version):
                self._put(key, None)
        self._seen = max(self._seen, version)
        for key, value in there.items():
            before = self._objects.get(key)
            if before is None or version_of(value) > version_of(before) or not version:
                self._put(key, value)

    def _put(self, key: str, value: Object | None) -> None:
        before = self._objects.get(key)
        if before is None and value is None:
            return
        namespace = key.rpartition("/")[0]
        if value is None:
            del self._objects[key]
            rest = self._namespaces[namespace]
            del rest[key]
            if not rest:
                del self._namespaces[namespace]
        else:
            self._objects[key] = value
            self._namespaces.setdefault(namespace, {})[key] = value
        for index in self._indexes.values():
            index.change(key, before, value)
        for listener in self._listeners:
            listener(before, value)


class _Index:
    """Keys of objects by a value of each."""

    def __init__(self, function: Callable[[Object], Iterable[str]]) -> None:
        self._function = function
        # As a dict, so that the order is that of coming, every time.
        self.keys: dict[str, dict[str, None]] = {}

    def change(self, key: str, before: Object | None, value: Object | None) -> None:
        """Follow a change of one object."""
        old = set(self._function(before)) if before is not None else set()
        new = set(self._function(value)) if value is not None else set()
        for one in old - new:
            keys = self.keys[one]
            keys.pop(key, None)
            if not keys:
                del self.keys[one]
        for one in new - old:
            self.keys.setdefault(one, {})[key] = None


class Informers:
    """The informers that the controllers of a process share.

    Args:
        client: of the API server.
        namespace: only objects of this one are followed, where they are in any; "": all.
    """

    def __init__(self, client: ApiClient, namespace: str = "") -> None:
        self._client = client
        self._namespace = namespace
        self._made: dict[_Key, Informer] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def of(
        self, resource: Resource, *, field_selector: str = "", label_selector: str = ""
    ) -> Informer:
        """Return the informer of a resource; it is made at the first call and started by `run`."""
        key = (resource, field_selector, label_selector)
        if key not in self._made:
            made = self._made[key] = Informer(
                self._client, resource, field_selector=field_selector,
                label_selector=label_selector,
                namespace=self._namespace if resource.namespaced else "",
            )  # fmt: skip
            if self._tasks is not None:
                self._start(made)
        return self._made[key]

    def followed(self, resource: Resource) -> Informer | None:
        """Return the informer of all objects of a resource, None if nobody asked for one."""
        return self._made.get((resource, "", ""))

    def view(self) -> View:
        """Return the same informers for one controller, which waits for no others than its own."""
        return View(self)

    async def synced(self) -> None:
        """Wait until all that were made have their first list."""
        for each in list(self._made.values()):
            await each.synced.wait()

    def errors(self) -> list[str]:
        """Return what cannot be followed at the moment, and why."""
        pairs = ((each.resource.plural, each.error) for each in self._made.values())
        return [f"{plural}: {error}" for plural, error in pairs if error is not None]

    def sizes(self) -> dict[str, int]:
        """Return how many objects of each resource are in memory."""
        return {each.resource.plural: len(each) for each in self._made.values()}

    async def run(self) -> None:
        """Follow the server with all of them, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for each in self._made.values():
                self._start(each)
            await asyncio.Event().wait()

    def _start(self, informer: Informer) -> None:
        assert self._tasks is not None
        self._tasks.create_task(informer.run(), name=f"follow {informer.resource.plural}")


class View:
    """The informers of one controller: a resource that it does not use cannot hold it up.

    Args:
        shared: of the process.
    """

    def __init__(self, shared: Informers) -> None:
        self._shared = shared
        self._used: dict[_Key, Informer] = {}

    def of(
        self, resource: Resource, *, field_selector: str = "", label_selector: str = ""
    ) -> Informer:
        """Return the informer of a resource."""
        key = (resource, field_selector, label_selector)
        if key not in self._used:
            self._used[key] = self._shared.of(
                resource, field_selector=field_selector, label_selector=label_selector
            )
        return self._used[key]

    async def synced(self) -> None:
        """Wait until all of them have their first list."""
        for each in list(self._used.values()):
            await each.synced.wait()

    async def certain(self) -> None:
        """Ask the server about each resource whose last write got no answer.

        Raises:
            ApiError: it does not answer now either.
        """
        for each in list(self._used.values()):
            await each.certain()


def of_owner(value: Object) -> list[str]:
    """Return the uid of the controller of an object, for `Informer.index` (pure)."""
    owners: list[dict[str, Any]] = value["metadata"].get("ownerReferences") or []
    return [one["uid"] for one in owners if one.get("controller")]
