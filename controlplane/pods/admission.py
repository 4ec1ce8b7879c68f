"""What can be said of a new pod only after every other check has changed it."""

from __future__ import annotations

from controlplane.api.resource import Context, Object, Resource
from controlplane.kinds.strategies.pods.quality import quality_class


class QualityClass:
    """Tells a new pod's quality of service; limits by default of its namespace are in it."""

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Set ``status.qosClass``."""
        if old is None and resource.prefix == "/core/pods/":
            value["status"]["qosClass"] = quality_class(value["spec"])
