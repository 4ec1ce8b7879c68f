"""Runtime handlers in terms of CRI: which one a pod gets, and what Status tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.cri.runtime import Runtime
from runtime.cri.sandbox_config import SandboxNeeds
from runtime.handlers.external import ExternalRuntime
from runtime.handlers.features import Features
from runtime.handlers.table import MissingProgramError, check_program

_MAX_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


async def choose_handler(
    runtime: Runtime, asked: str, needs: SandboxNeeds
) -> ExternalRuntime | None:
    """Return the external runtime for a pod, None for the built-in one.

    Raises:
        UnknownHandlerError: nobody configured it.
        MissingProgramError: its program is not there.
        InvalidRequestError: it cannot do what the pod needs.
    """
    external = runtime.handlers.resolve(asked)
    if external is None:
        return None
    check_program(external)
    features = await runtime.features.read(external.path)
    if needs.uid_mappings and not features.user_namespaces:
        raise InvalidRequestError(
            f"runtime handler {external.name!r}: {external.path} cannot give pods a user "
            "namespace of their own, for it does not map the ids of mounts (runc can from 1.2 "
            "on); use another handler, or the host's user namespace"
        )
    if needs.uid_mappings and needs.shared_pid:
        raise InvalidRequestError(
            f"runtime handler {external.name!r}: a pod with a user namespace of its own cannot "
            "share one PID namespace, whose /proc the runtime may not mount: use PID mode "
            "CONTAINER, or the built-in handler"
        )
    return msgspec.structs.replace(external, exec_cgroups=features.exec_cgroups)


async def handler_list(runtime: Runtime) -> list[cri.RuntimeHandler]:
    """Return all handlers with what they can do, the default one first, under the name ""."""
    found = []
    for name in runtime.handlers.names():
        features = await _features(runtime, name)
        found.append(
            cri.RuntimeHandler(
                name=name,
                features=cri.RuntimeHandlerFeatures(
                    recursive_read_only_mounts=features.recursive_read_only_mounts,
                    user_namespaces=features.user_namespaces and _user_namespaces_allowed(),
                ),
            )
        )
    return found


def default_problem(runtime: Runtime) -> str:
    """Say why pods that name no handler cannot be run; "" if they can."""
    external = runtime.handlers.resolve("")
    if external is None:
        return ""
    try:
        check_program(external)
    except MissingProgramError as error:
        return str(error)
    return ""


async def handler_details(runtime: Runtime) -> dict[str, Any]:
    """Return what ``info`` of Status tells of the external handlers, by name."""
    details: dict[str, Any] = {}
    for name in runtime.handlers.names():
        external = runtime.handlers.resolve(name)
        if name and external is not None:
            features = await runtime.features.read(external.path)
            details[name] = {"path": external.path, "problem": features.problem}
    return details


async def _features(runtime: Runtime, name: str) -> Features:
    external = runtime.handlers.resolve(name)
    if external is None:
        # mount_setattr(2), Linux 5.12, is what the executor needs in any case; it maps ids as well.
        return Features(recursive_read_only_mounts=True, user_namespaces=True)
    return await runtime.features.read(external.path)


def _user_namespaces_allowed() -> bool:
    try:
        return int(_MAX_USER_NAMESPACES.read_text()) > 0
    except FileNotFoundError:
        # A kernel without CONFIG_USER_NS.
        return False
