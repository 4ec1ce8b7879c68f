"""User namespaces of a request, in OCI terms (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.mappings import Mapping, MappingError, check_mappings
from runtime.oci.request import TranslationError, TranslationRequest

_FIELD = "linux.security_context.namespace_options.userns_options"


def read_mappings(
    options: cri.NamespaceOption,
) -> tuple[tuple[Mapping, ...], tuple[Mapping, ...]]:
    """Return the mappings of users and of groups that a pod asks for; empty: the host's ids.

    Raises:
        TranslationError: the mode is neither POD nor NODE, or the mappings are no good.
    """
    asked = options.userns_options
    if not options.HasField("userns_options") or asked.mode == cri.NODE:
        if asked.uids or asked.gids:
            raise TranslationError(f"{_FIELD}: mappings make no sense with mode NODE")
        return (), ()
    if asked.mode != cri.POD:
        mode = cri.NamespaceMode.Name(asked.mode)
        raise TranslationError(f"{_FIELD}.mode {mode}: only POD and NODE exist")
    uids, gids = _mappings(asked.uids), _mappings(asked.gids)
    try:
        check_mappings(uids, f"{_FIELD}.uids")
        check_mappings(gids, f"{_FIELD}.gids")
    except MappingError as error:
        raise TranslationError(str(error)) from error
    return uids, gids


def pod_mappings(
    request: TranslationRequest,
) -> tuple[tuple[Mapping, ...], tuple[Mapping, ...]]:
    """Return the mappings of the pod, which are those of its containers.

    Raises:
        TranslationError: the container asks for others, or is privileged.
    """
    of_pod = request.sandbox.linux.security_context.namespace_options
    uids, gids = read_mappings(of_pod)
    own = request.security.namespace_options
    if own.HasField("userns_options") and read_mappings(own) != (uids, gids):
        raise TranslationError(f"{_FIELD} of the container differ from those of its pod")
    if uids and request.security.privileged:
        raise TranslationError(
            "linux.security_context.privileged: the devices and file systems of the host cannot be "
            "given to a pod with a user namespace of its own"
        )
    return uids, gids


def linux_mappings(request: TranslationRequest) -> dict[str, Any]:
    """Return ``uidMappings`` and ``gidMappings`` of OCI ``linux``; empty without a user namespace.

    Raises:
        TranslationError: as :func:`pod_mappings`.
    """
    uids, gids = pod_mappings(request)
    return {"uidMappings": list(uids), "gidMappings": list(gids)} if uids else {}


def check_volume(what: str, mount: cri.Mount, request: TranslationRequest) -> bool:
    """Tell whether a volume is to be mounted with mapped ids.

    Raises:
        TranslationError: with other mappings than the pod's.
    """
    if not mount.uidMappings and not mount.gidMappings:
        return False
    if (_mappings(mount.uidMappings), _mappings(mount.gidMappings)) != pod_mappings(request):
        raise TranslationError(
            f"{what}: uidMappings and gidMappings must be those of the pod's user namespace"
        )
    return True


def _mappings(given: Sequence[cri.IDMapping]) -> tuple[Mapping, ...]:
    return tuple(
        {"containerID": one.container_id, "hostID": one.host_id, "size": one.length}
        for one in given
    )
