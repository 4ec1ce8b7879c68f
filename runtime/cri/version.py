"""Version: who answers here."""

from __future__ import annotations

from importlib import metadata

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime


async def version(runtime: Runtime, request: cri.VersionRequest) -> cri.VersionResponse:
    """Return name and version of the runtime, and of the protocol."""
    return cri.VersionResponse(
        # The version of this message's format, which is what every runtime answers.
        version="0.1.0",
        runtime_name="kubeletpy",
        runtime_version=metadata.version("kubeletpy"),
        runtime_api_version="v1",
    )
