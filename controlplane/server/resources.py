"""The verbs on resources: from a request to the registry and back."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError, bad_request
from controlplane.api.identity import SYSTEM
from controlplane.api.listing import Selection, read_list, select
from controlplane.api.resource import Context, Object, Resource
from controlplane.auth.authorization.attributes import Attributes, require
from controlplane.kinds.types import WrongTypeError
from controlplane.plane import Call, Plane
from controlplane.server.answers import (
    OBJECT_SHAPES,
    add_warnings,
    list_bytes,
    negotiate,
    object_bytes,
    respond,
    respond_bytes,
)
from controlplane.server.body import read_body, read_duplicates
from controlplane.server.keys import USER
from controlplane.server.patching import APPLY_TYPE, applier, apply, patcher, read_config
from controlplane.server.request import RequestInfo, integer, is_true
from controlplane.server.watching import serve_watch

_VALIDATIONS: Final = ("Strict", "Warn", "Ignore")


class Resources:
    """Serves what is kept in the store.

    Args:
        plane: the parts.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._registry = plane.registry
        self._catalog = plane.catalog

    async def serve(self, request: web.Request, info: RequestInfo) -> web.StreamResponse:
        """Answer a request for a resource.

        Raises:
            ApiError: it fails.
        """
        resource = self._catalog.find(info.group, info.version, info.resource)
        if resource is None:
            raise ApiError("NotFound", "the server could not find the requested resource")
        self._check(resource, info)
        context = _context(request, info)
        if not resource.kept:
            # There is no table of what is answered and forgotten.
            negotiate(request.headers.get("Accept", ""))
        handler = self._plane.handlers.get((info.group, info.resource, info.subresource))
        if handler is not None:
            answer = await handler(Call(request, info, resource, context, self._plane))
            if not answer.prepared:
                add_warnings(answer, context.warnings)
            return answer
        if not resource.kept:
            raise ApiError("NotFound", "the server could not find the requested resource")
        await self._freshen(request, info, resource)
        if info.verb == "get":
            return await self._get(request, info, resource)
        if info.verb == "list":
            return await self._list(request, info, resource)
        if info.verb == "watch":
            selection = _selection(resource, info, request)
            form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
            return await serve_watch(request, self._registry.store, selection, form)
        handlers = {
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        answer = await handlers[info.verb](request, info, resource, context)
        add_warnings(answer, context.warnings)
        return answer

    async def _freshen(self, request: web.Request, info: RequestInfo, resource: Resource) -> None:
        """See to it that memory is as new as the request must have it, where others write too."""
        store, wanted = self._registry.store, request.query.get("resourceVersion", "")
        if info.verb in ("get", "list", "watch"):
            ahead = wanted.isdecimal() and len(wanted) < 19 and int(wanted) > store.revision
            if (not wanted and not request.query.get("continue")) or ahead:
                await store.settle()
        elif info.verb != "create" and info.name:
            # Writes are checked where they are kept; only what seems not to be there is asked for.
            if store.get(resource.key(_namespace(info, resource), info.name)) is None:
                await store.settle()
        elif info.verb == "deletecollection":
            await store.settle()

    def _check(self, resource: Resource, info: RequestInfo) -> None:
        verbs: Any = resource.verbs
        if info.subresource:
            facts = resource.subresources.get(info.subresource)
            if facts is None:
                raise ApiError("NotFound", "the server could not find the requested resource")
            verbs = facts["verbs"]
        if info.verb not in verbs and info.verb != "deletecollection":
            raise ApiError(
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )
        if not resource.namespaced and info.namespace and resource.plural != "namespaces":
            raise ApiError("NotFound", "the server could not find the requested resource")
        if resource.namespaced and not info.namespace and info.verb not in ("list", "watch"):
            raise bad_request("an empty namespace may not be set for this request")

    async def _get(
        self, request: web.Request, info: RequestInfo, resource: Resource
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
        item = self._registry.get(resource, _namespace(info, resource), info.name)
        include = request.query.get("includeObject", "")
        content = object_bytes(resource, item.value, form, include)
        return respond_bytes(content, media=form.media)

    async def _list(
        self, request: web.Request, info: RequestInfo, resource: Resource
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
        query = request.query
        listed = read_list(
            self._registry.store,
            _selection(resource, info, request),
            limit=integer(query, "limit", 0),
            token=query.get("continue", ""),
            revision=query.get("resourceVersion", ""),
            match=query.get("resourceVersionMatch", ""),
        )
        meta: Object = {"resourceVersion": str(listed.revision)}
        if listed.token:
            meta["continue"] = listed.token
        if listed.remaining:
            meta["remainingItemCount"] = listed.remaining
        contents = [item.value for item in listed.items]
        content = list_bytes(resource, contents, meta, form, query.get("includeObject", ""))
        return respond_bytes(content, media=form.media)

    async def _create(
        self, request: web.Request, info: RequestInfo, resource: Resource, context: Context
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
        value = await self._read_object(request, resource, context)
        made = await self._registry.create(resource, info.namespace, value, context)
        content = object_bytes(resource, codec.encode(made), form, "")
        return respond_bytes(content, status=201, media=form.media)

    async def _read_object(
        self, request: web.Request, resource: Resource, context: Context
    ) -> Object:
        validation = _validation(request)
        body = await read_body(request, self._registry.types.kinds)
        doubled = await read_duplicates(request) if validation != "Ignore" else []
        return self._registry.clean(resource, body, context, validation, doubled)

    async def _update(
        self, request: web.Request, info: RequestInfo, resource: Resource, context: Context
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
        value = await self._read_object(request, resource, context)

        async def change(old: Object) -> Object:
            return json_copy(value)

        namespace, status = _namespace(info, resource), 200
        try:
            changed = await self._registry.update(resource, namespace, info.name, change, context)
        except ApiError as error:
            creates = resource.strategy.create_on_update and not info.subresource
            if error.reason != "NotFound" or not creates:
                raise
            self._check_creation(info, context)
            if value["metadata"].setdefault("name", info.name) != info.name:
                raise bad_request(
                    f"the name of the object ({value['metadata']['name']}) does not match the name "
                    f"on the URL ({info.name})"
                ) from None
            changed = await self._registry.create(resource, namespace, value, context)
            status = 201
        content = object_bytes(resource, codec.encode(changed), form, "")
        return respond_bytes(content, status=status, media=form.media)

    def _check_creation(self, info: RequestInfo, context: Context) -> None:
        """See to it that who updates or applies what is not there may create it.

        Raises:
            ApiError: they may not.
        """
        authorizer = self._plane.authorizer
        if authorizer is None:
            return
        wanted = Attributes(
            context.user, "create", info.group, info.version, info.resource, "",
            info.namespace, info.name,
        )  # fmt: skip
        require(authorizer, wanted)

    async def _patch(
        self, request: web.Request, info: RequestInfo, resource: Resource, context: Context
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
        patch = await read_body(request, self._registry.types.kinds)
        namespace = _namespace(info, resource)
        validation = _validation(request)
        doubled = await read_duplicates(request) if validation != "Ignore" else []
        status = 200
        if request.content_type == APPLY_TYPE:
            if not request.query.get("fieldManager"):
                raise bad_request("PatchOptions.fieldManager is required for apply patch")
            if doubled and validation == "Strict":
                raise bad_request(f"error strict decoding YAML: {', '.join(doubled)}")
            context.warnings += doubled
            config = read_config(self._registry, resource, patch)
            config["metadata"].setdefault("name", info.name)
            force = is_true(request.query.get("force", ""))
            try:
                change = applier(self._registry, resource, config, context, force=force)
                value = await self._registry.update(
                    resource, namespace, info.name, change, context, applied=True
                )
            except ApiError as error:
                if error.reason != "NotFound" or info.subresource:
                    raise
                self._check_creation(info, context)
                made = apply(self._registry, resource, None, config, context, force=force)
                value = await self._registry.create(
                    resource, info.namespace, made, context, applied=True
                )
                status = 201
        else:
            change = patcher(
                self._registry, resource, request.content_type, patch, context, validation, doubled
            )
            value = await self._registry.update(resource, namespace, info.name, change, context)
        content = object_bytes(resource, codec.encode(value), form, "")
        return respond_bytes(content, status=status, media=form.media)

    async def _delete(
        self, request: web.Request, info: RequestInfo, resource: Resource, context: Context
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""), OBJECT_SHAPES)
        options = await self._delete_options(request, context)
        item = self._registry.get(resource, _namespace(info, resource), info.name)
        value, gone = await self._registry.delete(resource, item, options, context)
        if not gone or resource.plural == "pods":
            content = object_bytes(resource, codec.encode(value), form, "")
            return respond_bytes(content, media=form.media)
        details = {
            "name": info.name,
            "group": resource.group,
            "kind": resource.plural,
            "uid": value["metadata"]["uid"],
        }
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {key: word for key, word in details.items() if word},
        }
        return respond(status, media=form.media)

    async def _delete_collection(
        self, request: web.Request, info: RequestInfo, resource: Resource, context: Context
    ) -> web.Response:
        form = negotiate(request.headers.get("Accept", ""))
        options = await self._delete_options(request, context)
        selection = _selection(resource, info, request)
        listed = read_list(
            self._registry.store, selection, limit=0, token="", revision="", match=""
        )
        contents: list[bytes] = []
        for item in listed.items:
            try:
                value, _ = await self._registry.delete(resource, item, options, context)
            except ApiError as error:
                if error.reason != "NotFound":
                    raise
                continue
            contents.append(codec.encode(value))
        meta = {"resourceVersion": str(self._registry.store.revision)}
        return respond_bytes(list_bytes(resource, contents, meta, form, ""), media=form.media)

    async def _delete_options(self, request: web.Request, context: Context) -> DeleteOptions:
        body = await read_body(request, self._registry.types.kinds)
        try:
            value, _ = self._registry.types.clean("meta.v1.DeleteOptions", body or {})
        except WrongTypeError as error:
            raise bad_request(f"DeleteOptions: {error}") from error
        query = request.query
        if "gracePeriodSeconds" in query:
            text = query["gracePeriodSeconds"]
            negative = text.startswith("-") and text[1:].isdecimal()
            value["gracePeriodSeconds"] = (
                -1 if negative else integer(query, "gracePeriodSeconds", 0)
            )
        policy = query.get("propagationPolicy") or value.get("propagationPolicy", "")
        orphan = value.get("orphanDependents")
        if "orphanDependents" in query:
            orphan = is_true(query["orphanDependents"])
        if policy and orphan is not None:
            raise bad_request("orphanDependents and propagationPolicy cannot be both set")
        if policy not in ("", "Background", "Foreground", "Orphan"):
            raise bad_request(f"propagationPolicy {policy!r} is not Background, Foreground, Orphan")
        if orphan is not None:
            policy = "Orphan" if orphan else "Background"
        if value.get("gracePeriodSeconds", 0) < 0:
            # Older clients meant the shortest time by that.
            value["gracePeriodSeconds"] = 1
        if value.get("dryRun"):
            _check_dry_run(value["dryRun"])
            context.dry_run = True
        conditions = value.get("preconditions", {})
        return DeleteOptions(
            value.get("gracePeriodSeconds"),
            conditions.get("uid", ""),
            conditions.get("resourceVersion", ""),
            policy,
        )


def json_copy(value: Object) -> Object:
    """Return a copy that can be changed at will."""
    copied: Object = json.loads(json.dumps(value))
    return copied


def _namespace(info: RequestInfo, resource: Resource) -> str:
    return info.namespace if resource.namespaced else ""


def _selection(resource: Resource, info: RequestInfo, request: web.Request) -> Selection:
    query = request.query
    return select(
        resource,
        _namespace(info, resource),
        info.name,
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
    )


def _context(request: web.Request, info: RequestInfo) -> Context:
    query = request.query
    if "dryRun" in query:
        _check_dry_run(query.getall("dryRun"))
    # The first word of the agent names who writes, as other servers have it.
    agent = request.headers.get("User-Agent", "").partition("/")[0] or "unknown"
    return Context(
        user=request.get(USER, SYSTEM),
        namespace=info.namespace,
        name=info.name,
        now=metadata.now(),
        dry_run="dryRun" in query,
        manager=query.get("fieldManager") or agent,
        subresource=info.subresource,
    )


def _check_dry_run(values: list[str]) -> None:
    if values != ["All"]:
        raise bad_request(f"dryRun must be All, not {', '.join(values)[:80]!r}")


def _validation(request: web.Request) -> str:
    validation = request.query.get("fieldValidation") or "Warn"
    if validation not in _VALIDATIONS:
        raise bad_request(f"fieldValidation {validation!r} is not one of {', '.join(_VALIDATIONS)}")
    return validation
