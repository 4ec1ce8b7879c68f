"""Where an installation keeps its things, below a root directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ETC: Final = Path("/etc/kubeletpy")
DATA: Final = Path("/var/lib/kubeletpy")
RUN: Final = Path("/run/kubeletpy")
UNITS: Final = Path("/etc/systemd/system")
RELEASES: Final = Path("/opt/kubeletpy/releases")
CURRENT: Final = Path("/opt/kubeletpy/current")
POD_LOGS: Final = Path("/var/log/pods")
CONTAINER_LOGS: Final = Path("/var/log/containers")
SYSCTL: Final = Path("/etc/sysctl.d/90-kubeletpy.conf")
MODULES: Final = Path("/etc/modules-load.d/kubeletpy.conf")
LOGIND: Final = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
"""Written by a kubelet with ``shutdownGracePeriod``."""

NODE: Final = ETC / "node.yaml"
STATE: Final = ETC / "install.json"
RUNTIME: Final = ETC / "runtime.toml"
KUBELET: Final = ETC / "kubelet.yaml"
PROXY: Final = ETC / "proxy.yaml"
MANIFESTS: Final = ETC / "manifests"
AUTHORITY: Final = ETC / "pki/ca.crt"
BOOTSTRAP: Final = ETC / "bootstrap-kubelet.kubeconfig"
KUBECONFIG: Final = ETC / "kubelet.kubeconfig"
RENEWED_KUBECONFIG: Final = ETC / "node.kubeconfig"
"""Names the certificate that the kubelet renews, where the kubeconfig given has a first one."""
ADMIN: Final = ETC / "admin.kubeconfig"
DNS_KUBECONFIG: Final = ETC / "dns.kubeconfig"

APISERVER: Final = DATA / "apiserver"
STORAGE: Final = DATA / "storage"
CERTIFICATE: Final = DATA / "kubelet/pki/kubelet-client-current.pem"
"""The kubelet's own, that its kubeconfig names."""
SOCKET: Final = RUN / "runtime.sock"


@dataclass(frozen=True)
class Places:
    """A root directory; ``/`` is this machine, any other an image that is being made.

    Attributes:
        root: below which all paths are.
    """

    root: Path = Path("/")

    @property
    def is_machine(self) -> bool:
        """Whether this is the machine that runs, rather than a directory."""
        return self.root == Path("/")

    def of(self, path: Path) -> Path:
        """Return where an absolute path is below the root."""
        return self.root / path.relative_to("/")
