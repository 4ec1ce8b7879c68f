"""What serving Ingresses needs of the machine."""

from __future__ import annotations

import shutil

from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.up.commands import is_free

_PORTS = (80, 443)


def check_ingress(one: NodeInstallation, previous: NodeInstallation | None) -> None:
    """Look whether there is an nginx, and whether its ports are free.

    Args:
        one: what is to be installed.
        previous: what was; an nginx of ours then has the ports.

    Raises:
        InstallError: Ingresses are wanted and cannot be served.
    """
    if one.server is None or not one.server.ingress:
        return
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        raise InstallError(
            "--ingress needs nginx: apt-get install nginx-light, and then "
            "systemctl disable --now nginx, for its ports are to be those of Ingresses"
        )
    if previous is not None and previous.server is not None and previous.server.ingress:
        return
    if taken := [str(port) for port in _PORTS if not is_free(port)]:
        raise InstallError(
            f"--ingress needs the ports 80 and 443, and somebody listens on {', '.join(taken)}: "
            "see `ss -ltnp`; Debian's own nginx is stopped by systemctl disable --now nginx"
        )
