"""Creating, reading, changing and deleting objects of any kind, under the rules of the API.

Source: Kubernetes API conventions, "Concurrency Control and Consistency", "Finalizers", "Dry-run";
Kubernetes documentation, "Garbage Collection".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.api import codec, metadata
from controlplane.api.claims import Taken, settle
from controlplane.api.deletion import DeleteOptions, check_preconditions, ended, marked
from controlplane.api.errors import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from controlplane.api.fieldsets import FieldSets
from controlplane.api.ownership import UPDATE, Manager, Ownership, write_managers
from controlplane.api.resource import (
    Admission,
    Claims,
    Context,
    DeletionCheck,
    Object,
    Resource,
)
from controlplane.kinds.types import Types, WrongTypeError
from controlplane.store.model import Item, MismatchError
from controlplane.store.store import Store
from kubeletpy_common.plain import copied

_MAX_TRIES = 100
_MAX_MANAGER = 128


@dataclass(slots=True)
class Registry:
    """All objects.

    Attributes:
        store: where they are.
        types: of their fields.
        field_sets: by which managers own them.
        admission: checks of every write, in order; they may change the object.
        reviews: checks of an object that is valid, in order, right before it is written; they
            change nothing (quotas, pod security).
        deletions: checks of every deletion.
        claims: what takes things for objects of a kind, by its prefix in the store.
    """

    store: Store
    types: Types
    field_sets: FieldSets
    admission: list[Admission] = field(default_factory=list)
    reviews: list[Admission] = field(default_factory=list)
    deletions: list[DeletionCheck] = field(default_factory=list)
    claims: dict[str, Claims] = field(default_factory=dict)

    def clean(
        self,
        resource: Resource,
        body: Any,
        context: Context,
        validation: str,
        duplicates: Sequence[str] = (),
    ) -> Object:
        """Return an object of a request as it is kept.

        Args:
            resource: what it must be.
            body: decoded JSON.
            context: gets the warnings.
            validation: of unknown fields: ``Strict``, ``Warn`` or ``Ignore``.
            duplicates: sentences about what the body has twice; treated alike.

        Raises:
            ApiError: it is of another kind, has values of wrong types, or unknown fields.
        """
        value, unknown = self.decode(resource, body)
        wrong = [*(f'unknown field "{path}"' for path in unknown), *duplicates]
        if wrong and validation == "Strict":
            raise bad_request(f"strict decoding error: {', '.join(wrong)}")
        if validation != "Ignore":
            context.warnings += wrong
        return value

    def decode(self, resource: Resource, body: Any) -> tuple[Object, list[str]]:
        """Return an object of a request as it is kept, and paths of fields that its kind lacks.

        Raises:
            ApiError: it is of another kind, or has values of wrong types.
        """
        if not isinstance(body, dict):
            raise bad_request(f"the body must be an object of kind {resource.kind}")
        for key, expected in (("kind", resource.kind), ("apiVersion", resource.api_version)):
            if body.setdefault(key, expected) != expected:
                raise bad_request(
                    f"{key} in the body is {body[key]!r}, but this path is for {expected!r}"
                )
        try:
            value, unknown = resource.strategy.clean(self.types, resource.type_name, body)
        except WrongTypeError as error:
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a '
                f"{resource.kind}: {error}"
            ) from error
        value.setdefault("metadata", {})
        return value, unknown

    def get(self, resource: Resource, namespace: str, name: str) -> Item:
        """Return an object.

        Raises:
            ApiError: there is none.
        """
        item = self.store.get(resource.key(namespace, name))
        if item is None:
            raise not_found(resource.plural, resource.group, name)
        return item

    def read(self, resource: Resource, item: Item) -> Object:
        """Return the object of an item, in the form of the resource; to be changed at will."""
        value = codec.decode(item)
        return resource.strategy.to_served(value) if resource.strategy.converts else value

    async def create(
        self,
        resource: Resource,
        namespace: str,
        value: Object,
        context: Context,
        *,
        applied: bool = False,
    ) -> Object:
        """Make an object, cleaned before, and return it as it is now.

        Args:
            resource: its kind.
            namespace: that it will be in; "" for none.
            value: the object, which is changed.
            context: of the request.
            applied: it comes of an apply, which has kept the books of its owners.

        Raises:
            ApiError: it is invalid, is refused, or its name is taken.
        """
        meta = value["metadata"]
        if resource.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise bad_request(
                    f"the namespace of the object ({meta['namespace']}) does not match the "
                    f"namespace of the request ({namespace})"
                )
        else:
            meta.pop("namespace", None)
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        for key in ("uid", "creationTimestamp", "deletionTimestamp", "resourceVersion",
                    "deletionGracePeriodSeconds", "selfLink"):  # fmt: skip
            meta.pop(key, None)
        if not applied:
            meta.pop("managedFields", None)
        meta["uid"] = metadata.new_uid()
        meta["creationTimestamp"] = context.now
        if resource.strategy.generation:
            meta["generation"] = 1
        generated = not meta.get("name") and bool(meta.get("generateName"))
        if generated:
            meta["name"] = metadata.generate_name(meta["generateName"])
        self._default(resource, value)
        resource.strategy.prepare_create(value, context)
        with Taken() as taken:
            await self._finish(resource, value, None, context, taken)
            meta = value["metadata"]
            if not applied:
                self._own(resource, {}, value, context)
            key = resource.key(namespace, meta["name"])
            if self.store.get(key) is not None:
                raise already_exists(resource.plural, resource.group, meta["name"])
            if context.dry_run:
                return value
            try:
                item = await self._put(resource, key, value, 0, taken)
            except MismatchError:
                raise already_exists(resource.plural, resource.group, meta["name"]) from None
        return self.read(resource, item)

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Object], Awaitable[Object]],
        context: Context,
        *,
        applied: bool = False,
    ) -> Object:
        """Change an object, and return it as it is now.

        Args:
            resource: its kind.
            namespace: that it is in.
            name: of it.
            change: returns the new object, cleaned, for the present one, which it may change;
                called again when another writer was faster, unless the new object names the
                resourceVersion that it is for.
            context: of the request; its subresource says what of the object is written.
            applied: it comes of an apply, which has kept the books of its owners.

        Raises:
            ApiError: there is none, it has changed meanwhile, or the new one is invalid.
        """
        key = resource.key(namespace, name)
        item = self.get(resource, namespace, name)
        for _ in range(_MAX_TRIES):
            old = self.read(resource, item)
            value = await change(copied(old))
            self._check_identity(resource, value, old, item)
            try:
                with Taken() as taken:
                    value = await self._prepare_update(resource, value, old, context, taken)
                    if not applied:
                        self._own(resource, old, value, context)
                    if _same(value, old):
                        return old
                    value["metadata"].pop("resourceVersion", None)
                    if context.dry_run:
                        return codec.with_revision(value, item.modified)
                    return await self._keep(resource, key, value, item, taken)
            except MismatchError as error:
                # A new object that names the version it is for is refused in the next round.
                if error.current is None:
                    raise not_found(resource.plural, resource.group, name) from None
                item = error.current
        raise self._changed(resource, name)

    async def delete(
        self, resource: Resource, item: Item, options: DeleteOptions, context: Context
    ) -> tuple[Object, bool]:
        """Delete an object; return it as it is now, and whether it is gone.

        Raises:
            ApiError: a precondition does not hold.
        """
        for _ in range(_MAX_TRIES):
            old = self.read(resource, item)
            check_preconditions(resource, old, options)
            for check in self.deletions:
                await check.admit_delete(resource, old, context)
            value = marked(resource, old, options, context)
            if value is None:
                if context.dry_run:
                    return ended(resource, old, context), True
                try:
                    gone = await self._remove(resource, old, item)
                    return ended(resource, gone, context), True
                except MismatchError as error:
                    if error.current is None:
                        name = old["metadata"]["name"]
                        raise not_found(resource.plural, resource.group, name) from None
                    item = error.current
                    continue
            if context.dry_run or value == old:
                return value, False
            value["metadata"].pop("resourceVersion", None)
            try:
                return await self._keep(resource, item.key, value, item, Taken()), False
            except MismatchError as error:
                if error.current is None:
                    name = old["metadata"]["name"]
                    raise not_found(resource.plural, resource.group, name) from None
                item = error.current
        raise self._changed(resource, codec.decode(item)["metadata"]["name"])

    async def _prepare_update(
        self, resource: Resource, value: Object, old: Object, context: Context, taken: Taken
    ) -> Object:
        strategy, meta, before = resource.strategy, value["metadata"], old["metadata"]
        for key in ("uid", "creationTimestamp", "deletionTimestamp", "generation",
                    "deletionGracePeriodSeconds", "selfLink", "name", "namespace"):  # fmt: skip
            if key in before:
                meta[key] = before[key]
            else:
                meta.pop(key, None)
        self._default(resource, value)
        if context.subresource == "status":
            value = _status_only(value, old)
            strategy.prepare_status(value, old, context)
        else:
            if strategy.has_status and not context.subresource:
                _put(value, "status", old.get("status"))
            strategy.prepare_update(value, old, context)
        counted = strategy.generation and context.subresource != "status"
        if counted and strategy.is_new_generation(value, old):
            value["metadata"]["generation"] = before.get("generation", 0) + 1
        await self._finish(resource, value, old, context, taken)
        return value

    async def _finish(
        self,
        resource: Resource,
        value: Object,
        old: Object | None,
        context: Context,
        taken: Taken,
    ) -> None:
        strategy, created = resource.strategy, old is None
        self._default(resource, value)
        for check in self.admission:
            await check.admit(resource, value, old, context)
        claims = self.claims.get(resource.prefix)
        if claims is not None and not context.subresource:
            taken.claims.append(claims.claim(value, old, context))
        causes = metadata.check_metadata(
            value["metadata"], namespaced=resource.namespaced, names=resource.strategy.names
        )
        if old is not None:
            causes = [cause for cause in causes if cause.field != "metadata.name"]
            causes += _check_finalizers(value, old)
        if old is not None and context.subresource == "status":
            causes += strategy.validate_status(value, old)
        elif old is not None and context.subresource:
            causes += strategy.validate_subresource(value, old, context.subresource)
        else:
            causes += strategy.validate(value, old)
        if causes:
            name = value["metadata"].get("name", "")
            raise invalid(resource.kind, resource.group, name, causes)
        # A change that makes no new generation is nothing that a user is to be told of again.
        if created or not strategy.generation or _generation(value) != _generation(old):
            context.warnings += strategy.warnings(value)
        try:
            for check in self.reviews:
                await check.admit(resource, value, old, context)
        finally:
            taken.claims += context.claims
            context.claims.clear()

    def _default(self, resource: Resource, value: Object) -> None:
        if resource.strategy.typed:
            self.types.add_defaults(resource.type_name, value)
        resource.strategy.default(value)

    async def _keep(
        self, resource: Resource, key: str, value: Object, item: Item, taken: Taken
    ) -> Object:
        """Write a changed object, or remove it if it waited for that change to go."""
        meta = value["metadata"]
        if (
            meta.get("deletionTimestamp")
            and not meta.get("finalizers")
            and not meta.get("deletionGracePeriodSeconds")
            and not value.get("spec", {}).get("finalizers")
        ):
            return await self._remove(resource, value, item)
        return self.read(resource, await self._put(resource, key, value, item.modified, taken))

    async def _remove(self, resource: Resource, value: Object, item: Item) -> Object:
        """Remove an object, and free what it had for itself alone."""
        claims = self.claims.get(resource.prefix)
        if claims is None:
            change = await self.store.delete(item.key, expected=item.modified)
        else:
            held = self.read(resource, item)
            deleting = asyncio.ensure_future(self.store.delete(item.key, expected=item.modified))
            deleting.add_done_callback(
                lambda done: claims.release(held) if _succeeded(done) else None
            )
            change = await asyncio.shield(deleting)
        assert change is not None
        return codec.with_revision(value, change.revision)

    async def _put(
        self, resource: Resource, key: str, value: Object, expected: int, taken: Taken
    ) -> Item:
        strategy, claims = resource.strategy, taken.pass_on()
        kept = strategy.to_stored(value) if strategy.converts else value
        write = self.store.put(
            key, lambda revision: codec.stored(kept, revision), expected=expected
        )
        if not claims:
            return await write
        # What was claimed follows the write, even when nobody waits for its end any more.
        writing = asyncio.ensure_future(write)
        writing.add_done_callback(lambda done: settle(claims, kept=_succeeded(done)))
        return await asyncio.shield(writing)

    def _own(self, resource: Resource, old: Object, value: Object, context: Context) -> None:
        manager = Manager(
            name=context.manager[:_MAX_MANAGER],
            operation=UPDATE,
            api_version=resource.api_version,
            subresource=context.subresource,
            time=context.now,
        )
        meta = value["metadata"]
        if meta.get("managedFields") == [{}]:
            # That is how a client has the books closed (documentation, "Clearing managedFields").
            del meta["managedFields"]
            return
        # Who sends no books leaves them as they are; who sends some has them taken as they are.
        known = meta.get("managedFields") or old.get("metadata", {}).get("managedFields")
        live = {**old, "metadata": {**old.get("metadata", {})}}
        _put(live["metadata"], "managedFields", known)
        _put(meta, "managedFields", known)
        if old and _same(value, old):
            return
        ownership = Ownership(self.field_sets, resource.type_name)
        managers = ownership.after_update(live, value, manager)
        value["metadata"]["managedFields"] = write_managers(managers)

    def _check_identity(self, resource: Resource, value: Object, old: Object, item: Item) -> None:
        meta, before = value["metadata"], old["metadata"]
        name = before["name"]
        if meta.get("name", name) != name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL "
                f"({name})"
            )
        if (
            resource.namespaced
            and meta.get("namespace", before["namespace"]) != before["namespace"]
        ):
            raise bad_request(
                "the namespace of the object does not match the namespace on the request"
            )
        if meta.get("uid") and meta["uid"] != before["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
            raise conflict(resource.plural, resource.group, name, why + before["uid"])
        revision = meta.get("resourceVersion", "")
        if revision and revision != str(item.modified):
            if not revision.isdecimal():
                cause = metadata.wrong("metadata.resourceVersion", revision, "is no revision")
                raise invalid(resource.kind, resource.group, name, [cause])
            raise self._changed(resource, name)
        if not revision and not resource.strategy.unconditional:
            text = "must be specified for an update"
            cause = metadata.wrong("metadata.resourceVersion", 0, text)
            raise invalid(resource.kind, resource.group, name, [cause])

    @staticmethod
    def _changed(resource: Resource, name: str) -> ApiError:
        why = (
            "the object has been modified; please apply your changes to the latest version and try "
            "again"
        )
        return conflict(resource.plural, resource.group, name, why)


def _succeeded(done: asyncio.Future[Any]) -> bool:
    return not done.cancelled() and done.exception() is None


def _status_only(value: Object, old: Object) -> Object:
    result = copied(old)
    _put(result, "status", value.get("status"))
    result["metadata"] = value["metadata"]
    return result


def _check_finalizers(value: Object, old: Object) -> list[Cause]:
    if not old["metadata"].get("deletionTimestamp"):
        return []
    known = set(old["metadata"].get("finalizers", []))
    added = [f for f in value["metadata"].get("finalizers", []) if f not in known]
    text = f"no new finalizers can be added if the object is being deleted, found new ones {added}"
    return [metadata.forbidden("metadata.finalizers", text)] if added else []


def _generation(value: Object | None) -> int:
    number: int = (value or {}).get("metadata", {}).get("generation", 0)
    return number


def _same(value: Object, old: Object) -> bool:
    if {**value, "metadata": None} != {**old, "metadata": None}:
        return False
    ignored = ("resourceVersion", "managedFields")
    one, other = value["metadata"], old["metadata"]
    if any(one.get(k) != other.get(k) for k in one.keys() | other.keys() if k not in ignored):
        return False
    return bool(_owners(one) == _owners(other))


def _owners(meta: Object) -> Any:
    return [{**entry, "time": ""} for entry in meta.get("managedFields", [])]


def _put(value: Object, key: str, item: Any) -> None:
    if item is None:
        value.pop(key, None)
    else:
        value[key] = item
