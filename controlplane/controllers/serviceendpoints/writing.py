"""Small things about slices and what the server answers (pure)."""

from __future__ import annotations

from typing import Final

from controlplane.engine.resources import Object
from kubeletpy_common.apiclient.errors import ApiError

_SERVICE_NAME: Final = "kubernetes.io/service-name"


def service_key(slice_: Object) -> str:
    """Return the key of the Service that a slice says it is of; "": it says none."""
    meta = slice_["metadata"]
    name = (meta.get("labels") or {}).get(_SERVICE_NAME)
    return f"{meta['namespace']}/{name}" if name else ""


def of_service_name(slice_: Object) -> list[str]:
    """Return the key of the Service of a slice, for `Informer.index`."""
    key = service_key(slice_)
    return [key] if key else []


def is_end_of_namespace(error: ApiError) -> bool:
    """Whether something could not be made because its namespace is being deleted."""
    causes = error.details.get("causes") or ()
    return any(one.get("reason") == "NamespaceTerminating" for one in causes)
