"""RuntimeConfig: what a client has to do the same way."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime


async def runtime_config(
    runtime: Runtime, request: cri.RuntimeConfigRequest
) -> cri.RuntimeConfigResponse:
    """Return the cgroup driver: a kubelet names pods' cgroups accordingly (KEP-4033)."""
    driver = cri.SYSTEMD if runtime.config.cgroups.driver == "systemd" else cri.CGROUPFS
    return cri.RuntimeConfigResponse(linux=cri.LinuxRuntimeConfiguration(cgroup_driver=driver))
