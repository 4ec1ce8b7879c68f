"""Status: whether pods can be run here."""

from __future__ import annotations

import json

import msgspec

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.handlers import default_problem, handler_details, handler_list
from runtime.cri.runtime import Runtime
from runtime.cri.update_runtime_config import recorded_pod_cidr


async def status(runtime: Runtime, request: cri.StatusRequest) -> cri.StatusResponse:
    """Return the conditions, handlers and features; with ``verbose`` the settings as JSON.

    The runtime is ready as long as the daemon answers and the default handler's program is there:
    it refuses to start where something that all pods need is missing. The built-in network is made
    with the first pod; that of CNI plugins is not ready while configuration or plugins are not.
    """
    network_problem = await runtime.network.readiness()
    runtime_problem = default_problem(runtime)
    return cri.StatusResponse(
        status=cri.RuntimeStatus(
            conditions=[
                cri.RuntimeCondition(
                    type="RuntimeReady",
                    status=not runtime_problem,
                    reason="RuntimeHandlerMissing" if runtime_problem else "",
                    message=runtime_problem,
                ),
                cri.RuntimeCondition(
                    type="NetworkReady",
                    status=not network_problem,
                    reason="NetworkPluginNotReady" if network_problem else "",
                    message=network_problem,
                ),
            ]
        ),
        runtime_handlers=await handler_list(runtime),
        features=cri.RuntimeFeatures(supplemental_groups_policy=True, mount_options=True),
        info=await _info(runtime) if request.verbose else {},
    )


async def _info(runtime: Runtime) -> dict[str, str]:
    settings = msgspec.to_builtins(runtime.config, enc_hook=str)
    settings["podCIDR"] = recorded_pod_cidr(runtime.config.root)
    return {
        "config": json.dumps(settings),
        "runtimeHandlers": json.dumps(await handler_details(runtime)),
    }
