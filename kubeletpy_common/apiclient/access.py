"""How the API server is reached: kubeconfig, ``--master``, or as a pod."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from kubeletpy_common.apiclient.kubeconfig import (
    Access,
    KubeconfigError,
    in_cluster,
    read_kubeconfig,
)


def access_of(kubeconfig: str, master: str, environment: Mapping[str, str]) -> Access:
    """Return the access of a kubeconfig, its server replaced by ``master`` if there is one.

    Raises:
        KubeconfigError: it cannot be used; without both, this is no pod.
    """
    if not kubeconfig and not master:
        return in_cluster(environment)
    server = master.rstrip("/")
    parts = urlsplit(server)
    if server and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise KubeconfigError(f"--master {master!r} is no URL such as https://10.0.0.1:6443")
    access = read_kubeconfig(Path(kubeconfig)) if kubeconfig else Access(server=server)
    return dataclasses.replace(access, server=server or access.server)
