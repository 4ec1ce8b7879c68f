"""The four kinds of patches, as changes for the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import jsonpatch
import jsonpointer

from controlplane.api.errors import ApiError, bad_request
from controlplane.api.merging import merge, strategic_merge
from controlplane.api.ownership import APPLY, Manager, Ownership
from controlplane.api.registry import Registry
from controlplane.api.resource import Context, Object, Resource

APPLY_TYPE: Final = "application/apply-patch+yaml"
_JSON: Final = "application/json-patch+json"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_MAX_OPERATIONS: Final = 10_000

Change = Callable[[Object], Awaitable[Object]]


def patcher(
    registry: Registry,
    resource: Resource,
    kind: str,
    patch: Any,
    context: Context,
    validation: str,
    duplicates: Sequence[str] = (),
) -> Change:
    """Return what turns a present object into the patched one.

    Raises:
        ApiError: the kind of patch is unknown, or the patch is none of its kind.
    """
    compute = _computation(registry, resource, kind, patch)

    async def change(old: Object) -> Object:
        return registry.clean(resource, compute(old), context, validation, duplicates)

    return change


def applier(
    registry: Registry, resource: Resource, config: Object, context: Context, *, force: bool
) -> Change:
    """Return what applies ``config``, cleaned, to a present object."""

    async def change(old: Object) -> Object:
        return apply(registry, resource, old, config, context, force=force)

    return change


def read_config(registry: Registry, resource: Resource, body: Any) -> Object:
    """Return the configuration of an apply as it is kept.

    Raises:
        ApiError: it is of another kind, or has fields or types that this one has not: nobody could
            own them, so they are refused whatever the client says of field validation.
    """
    config, unknown = registry.decode(resource, body)
    if unknown:
        meta = config["metadata"]
        name = "/".join(filter(None, (meta.get("namespace"), meta.get("name"))))
        told = [f".{path}: field not declared in schema" for path in unknown]
        listed = told[0] if len(told) == 1 else "errors:\n  " + "\n  ".join(told)
        raise bad_request(
            f"failed to create typed patch object ({name}; {resource.api_version}, "
            f"Kind={resource.kind}): {listed}"
        )
    return config


def apply(
    registry: Registry,
    resource: Resource,
    live: Object | None,
    config: Object,
    context: Context,
    *,
    force: bool,
) -> Object:
    """Return the object that comes of an apply.

    Raises:
        ApiError: the configuration tells its owners, or others own what it changes.
    """
    if config["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    manager = Manager(
        context.manager, APPLY, resource.api_version, context.subresource, time=context.now
    )
    ownership = Ownership(registry.field_sets, resource.type_name)
    return ownership.apply(live, config, manager, force=force)


def _computation(
    registry: Registry, resource: Resource, kind: str, patch: Any
) -> Callable[[Object], Any]:
    if kind == _JSON:
        return _json_patch(patch)
    if not isinstance(patch, dict):
        raise bad_request("the body of this kind of patch must be an object")
    if kind == _MERGE:
        return lambda old: merge(old, patch)
    if kind == _STRATEGIC and resource.strategy.typed:
        return lambda old: strategic_merge(registry.types, resource.type_name, old, patch)
    strategic = (_STRATEGIC,) if resource.strategy.typed else ()
    listed = ", ".join((_JSON, _MERGE, *strategic, APPLY_TYPE))
    raise ApiError(
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        f"{listed}",
    )


def _json_patch(patch: Any) -> Callable[[Object], Any]:
    if not isinstance(patch, list) or len(patch) > _MAX_OPERATIONS:
        raise bad_request(f"a JSON patch is a list of at most {_MAX_OPERATIONS} operations")
    try:
        prepared = jsonpatch.JsonPatch(patch)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
        raise bad_request(f"the JSON patch is not well-formed: {error}") from error

    def apply_to(old: Object) -> Any:
        try:
            return prepared.apply(old)
        except (
            jsonpatch.JsonPatchException, jsonpointer.JsonPointerException,
            TypeError, KeyError, IndexError, ValueError,
        ) as error:  # fmt: skip
            message = f"the server rejected our request due to an error in our request: {error}"
            raise ApiError("Invalid", message) from error

    return apply_to
