"""Which parts a kubelet has besides its pods: each adds itself to the `Core`."""

from __future__ import annotations

from kubeletpy import event_sink
from kubeletpy.admission import admission
from kubeletpy.certificates import renewal as certificates
from kubeletpy.container_logs import links
from kubeletpy.server import serving
from kubeletpy.sources import apiserver, url
from kubeletpy.volumes import assembly as volumes

from .core import Core
from .eviction.install import install as install_eviction
from .housekeeping import install as install_housekeeping
from .plugins import assembly as plugins
from .pods.install import install as install_pods
from .resources.install import install as install_resources
from .shutdown import manager as shutdown


def install(core: Core) -> None:
    """Let each part hook in; one line each, in the order in which they are started."""
    certificates.install(core)
    shutdown.install(core)
    plugins.install(core)
    admission.install(core)
    apiserver.install(core)
    url.install(core)
    install_resources(core)
    event_sink.install(core)
    serving.install(core)
    links.install(core)
    install_pods(core)
    volumes.install(core)
    install_housekeeping(core)
    install_eviction(core)
