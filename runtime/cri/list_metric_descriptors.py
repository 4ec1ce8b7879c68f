"""ListMetricDescriptors: which metrics there are."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.metric_table import METRICS
from runtime.cri.runtime import Runtime


async def list_metric_descriptors(
    runtime: Runtime, request: cri.ListMetricDescriptorsRequest
) -> cri.ListMetricDescriptorsResponse:
    """Return name, meaning and label keys of each metric that ListPodSandboxMetrics gives."""
    return cri.ListMetricDescriptorsResponse(
        descriptors=[kind.descriptor() for kind in METRICS.values()]
    )
