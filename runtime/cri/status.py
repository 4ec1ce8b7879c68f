"""Status: whether pods can be run here."""

from __future__ import annotations

import json

import msgspec

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime
from runtime.cri.sandbox_config import HANDLERS


async def status(runtime: Runtime, request: cri.StatusRequest) -> cri.StatusResponse:
    """Return the conditions, handlers and features; with ``verbose`` the settings as JSON.

    Both conditions hold as long as the daemon answers: it refuses to start where something that
    pods need is missing, and its network is made with the first pod.
    """
    # mount_setattr(2) with AT_RECURSIVE, Linux 5.12, is what the executor needs in any case.
    features = cri.RuntimeHandlerFeatures(recursive_read_only_mounts=True, user_namespaces=False)
    return cri.StatusResponse(
        status=cri.RuntimeStatus(
            conditions=[
                cri.RuntimeCondition(type="RuntimeReady", status=True),
                cri.RuntimeCondition(type="NetworkReady", status=True),
            ]
        ),
        runtime_handlers=[cri.RuntimeHandler(name=name, features=features) for name in HANDLERS],
        features=cri.RuntimeFeatures(supplemental_groups_policy=True),
        info={"config": _info(runtime)} if request.verbose else {},
    )


def _info(runtime: Runtime) -> str:
    return json.dumps(msgspec.to_builtins(runtime.config, enc_hook=str))
