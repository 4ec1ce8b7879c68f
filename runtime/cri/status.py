"""Status: whether pods can be run here."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime
from runtime.cri.sandbox_config import HANDLERS
from runtime.cri.update_runtime_config import recorded_pod_cidr

_MAX_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


async def status(runtime: Runtime, request: cri.StatusRequest) -> cri.StatusResponse:
    """Return the conditions, handlers and features; with ``verbose`` the settings as JSON.

    The runtime is ready as long as the daemon answers: it refuses to start where something that
    pods need is missing. The built-in network is made with the first pod; that of CNI plugins is
    not ready while configuration or plugins are not.
    """
    network_problem = await runtime.network.readiness()
    # mount_setattr(2), Linux 5.12, is what the executor needs in any case; it maps ids as well.
    features = cri.RuntimeHandlerFeatures(
        recursive_read_only_mounts=True, user_namespaces=_user_namespaces_allowed()
    )
    return cri.StatusResponse(
        status=cri.RuntimeStatus(
            conditions=[
                cri.RuntimeCondition(type="RuntimeReady", status=True),
                cri.RuntimeCondition(
                    type="NetworkReady",
                    status=not network_problem,
                    reason="NetworkPluginNotReady" if network_problem else "",
                    message=network_problem,
                ),
            ]
        ),
        runtime_handlers=[cri.RuntimeHandler(name=name, features=features) for name in HANDLERS],
        features=cri.RuntimeFeatures(supplemental_groups_policy=True, mount_options=True),
        info={"config": _info(runtime)} if request.verbose else {},
    )


def _user_namespaces_allowed() -> bool:
    try:
        return int(_MAX_USER_NAMESPACES.read_text()) > 0
    except FileNotFoundError:
        # A kernel without CONFIG_USER_NS.
        return False


def _info(runtime: Runtime) -> str:
    settings = msgspec.to_builtins(runtime.config, enc_hook=str)
    return json.dumps({**settings, "podCIDR": recorded_pod_cidr(runtime.config.root)})
