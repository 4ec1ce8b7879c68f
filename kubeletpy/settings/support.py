"""Which fields of KubeletConfiguration have no effect here, and why.

A field that is honoured is in neither table. Whoever makes one work takes it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .configuration import KubeletConfiguration

NEEDLESS = frozenset(
    """
    syncFrequency fileCheckFrequency kernelMemcgNotification cpuManagerReconcilePeriod
    configMapAndSecretChangeDetectionStrategy maxOpenFiles contentType iptablesMasqueradeBit
    hairpinMode iptablesDropBit makeIPTablesUtilChains enableContentionProfiling
    enableProfilingHandler enableDebugFlagsHandler volumePluginDir
    """.split()
)
"""Fields that tune what this kubelet has no need of: polling where it is told by events, Go's
profiles and encodings, iptables rules and bridges of kubelets with networks of their own,
Flexvolume."""

UNSUPPORTED = frozenset(
    """
    cgroupsPerQOS
    kubeletCgroups
    qosReserved
    showHiddenMetricsForVersion
    streamingConnectionIdleTimeout
    systemCgroups
    tracing
    """.split()
)
"""Fields that exist in Kubernetes and that this kubelet does not honour yet. qosReserved is behind
a gate that is off in Kubernetes, too."""

PARTLY: Mapping[str, Callable[[KubeletConfiguration], bool]] = {
    # Python's ssl can hold a server to one group, not to several.
    "tlsCurvePreferences": lambda one: len(one.tls_curve_preferences) > 1,
    # The log is JSON, with the levels of the verbosity; files of Go's source are not known here.
    "logging": lambda one: bool(one.logging.vmodule),
}
"""Fields of which some values are not honoured: whether this one is such."""
