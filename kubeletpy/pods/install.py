"""What the pods of a kubelet need of the cluster, hooked into the `Core`."""

from __future__ import annotations

from kubeletpy.core import Core


def install(core: Core) -> None:
    """Follow the runtime classes of the cluster."""
    api = core.api
    if api is None:
        return
    core.background.append(
        ("runtime classes", lambda: core.tools.handlers.follow(api, lambda: None))
    )
