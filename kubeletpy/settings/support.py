"""Which fields of KubeletConfiguration have no effect here, and why.

A field that is honoured is in neither table. Whoever makes one work takes it out.
"""

from __future__ import annotations

NEEDLESS = frozenset(
    """
    syncFrequency fileCheckFrequency kernelMemcgNotification cpuManagerReconcilePeriod
    configMapAndSecretChangeDetectionStrategy maxOpenFiles contentType iptablesMasqueradeBit
    iptablesDropBit makeIPTablesUtilChains enableContentionProfiling enableProfilingHandler
    enableDebugFlagsHandler volumePluginDir
    """.split()
)
"""Fields that tune what this kubelet has no need of: polling where it is told by events, Go's
profiles and encodings, iptables rules of kubelets before 1.27, Flexvolume."""

UNSUPPORTED = frozenset(
    """
    allowedUnsafeSysctls
    cgroupsPerQOS
    containerLogMaxFiles
    containerLogMaxSize
    containerLogMaxWorkers
    containerLogMonitorInterval
    enableSystemLogQuery
    eventBurst
    eventRecordQPS
    evictionHard
    evictionMaxPodGracePeriod
    evictionMinimumReclaim
    evictionPressureTransitionPeriod
    evictionSoft
    evictionSoftGracePeriod
    failSwapOn
    hairpinMode
    httpCheckFrequency
    imageGCHighThresholdPercent
    imageGCLowThresholdPercent
    imageMaximumGCAge
    imageMinimumGCAge
    kubeletCgroups
    logging
    mergeDefaultEvictionSettings
    oomScoreAdj
    podCIDR
    protectKernelDefaults
    qosReserved
    showHiddenMetricsForVersion
    shutdownGracePeriod
    shutdownGracePeriodByPodPriority
    shutdownGracePeriodCriticalPods
    staticPodURL
    staticPodURLHeader
    streamingConnectionIdleTimeout
    systemCgroups
    tlsCurvePreferences
    tracing
    volumeStatsAggPeriod
    """.split()
)
"""Fields that exist in Kubernetes and that this kubelet does not honour yet."""
