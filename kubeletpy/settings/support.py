"""Which fields of KubeletConfiguration have no effect here, and why.

A field that is honoured is in neither table. Whoever makes one work takes it out.
"""

from __future__ import annotations

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
    enableSystemLogQuery
    failSwapOn
    kubeletCgroups
    logging
    oomScoreAdj
    podCIDR
    protectKernelDefaults
    qosReserved
    showHiddenMetricsForVersion
    streamingConnectionIdleTimeout
    systemCgroups
    tlsCurvePreferences
    tracing
    """.split()
)
"""Fields that exist in Kubernetes and that this kubelet does not honour yet."""
