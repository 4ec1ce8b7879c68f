"""UpdateRuntimeConfig: the node's addresses for pods, as the kubelet heard of them."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from pathlib import Path

from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.logs import event
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.cri.runtime import Runtime

_log = logging.getLogger("runtime.cri")

FILE_NAME = "runtime-config.json"


async def update_runtime_config(
    runtime: Runtime, request: cri.UpdateRuntimeConfigRequest
) -> cri.UpdateRuntimeConfigResponse:
    """Record the pod CIDR, or several of them with commas in between; an empty one is ignored.

    With ``[network] from_node`` the built-in network gives pods addresses of these; else, as with
    containerd without a CNI template, the network itself is not changed by it: that one is of the
    runtime's settings, or of the CNI configuration. CNI plugins with the capability ``ipRanges``
    are told of it.

    Raises:
        InvalidRequestError: it is no CIDR.
        OSError: the disk refused.
    """
    cidr = request.runtime_config.network_config.pod_cidr
    if not cidr:
        return cri.UpdateRuntimeConfigResponse()
    try:
        networks = pod_networks(cidr)
    except ValueError as error:
        raise InvalidRequestError(
            f"runtime_config.network_config.pod_cidr {cidr!r}: {error}"
        ) from error
    path = runtime.config.root / FILE_NAME
    await asyncio.to_thread(write_atomic, path, json.dumps({"podCIDR": cidr}), mode=0o600)
    runtime.network.use_pod_cidrs(networks)
    event(_log, logging.INFO, "pod CIDR recorded", pod_cidr=cidr,
          from_node=runtime.config.network.from_node)  # fmt: skip
    return cri.UpdateRuntimeConfigResponse()


def pod_networks(cidr: str) -> list[str]:
    """Return the networks of a pod CIDR in their canonical form.

    Raises:
        ValueError: one is none.
    """
    parts = [part.strip() for part in cidr.split(",") if cidr]
    return [str(ipaddress.ip_network(part, strict=False)) for part in parts]


def recorded_pod_cidr(root: Path) -> str:
    """Return the pod CIDR that was recorded last, empty if there is none."""
    try:
        recorded = json.loads((root / FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return ""
    cidr = recorded.get("podCIDR", "") if isinstance(recorded, dict) else ""
    return cidr if isinstance(cidr, str) else ""
