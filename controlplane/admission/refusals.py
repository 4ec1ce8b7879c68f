"""How admission refuses."""

from __future__ import annotations

from controlplane.api.errors import ApiError, Cause
from controlplane.api.resource import Object, Resource


def forbidden(
    resource: Resource, meta: Object, why: str, *, causes: tuple[Cause, ...] = ()
) -> ApiError:
    """Return the error of a write that a check does not let pass.

    Args:
        resource: the kind.
        meta: of the object that is written.
        why: the check's reason, for people.
        causes: for programs.
    """
    name = meta.get("name", "")
    what = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    text = f'{what} "{name}" is forbidden: {why}'
    return ApiError("Forbidden", text, kind=resource.plural, group=resource.group, name=name,
                    causes=causes)  # fmt: skip


def is_of(resource: Resource, group: str, plural: str) -> bool:
    """Say whether it is this resource, in whichever version."""
    return (resource.group, resource.plural) == (group, plural)
