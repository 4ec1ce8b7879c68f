"""Links to the logs of running containers in one directory, where collectors of logs look.

``/var/log/containers/<pod>_<namespace>_<container>-<id>.log`` leads to the log below
``/var/log/pods``, as with the Go kubelet; the directory stands beside the one of ``podLogsDir``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from kubeletpy.api.pod import Pod

_LONGEST_NAME = 255
_SUFFIX = ".log"


def directory_of(pod_logs: Path) -> Path:
    """Return where the links are."""
    return pod_logs.parent / "containers"


def add_link(pod_logs: Path, pod: Pod, container: str, container_id: str, log: Path) -> None:
    """Link the log of a container that was started; an older link of that name is replaced.

    Raises:
        OSError: it cannot be made.
    """
    meta = pod.metadata
    name = f"{meta.name}_{meta.namespace}_{container}-{container_id}"
    link = directory_of(pod_logs) / (name[: _LONGEST_NAME - len(_SUFFIX)] + _SUFFIX)
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(log)


def remove_links(pod_logs: Path, pod: Pod, target: Path) -> None:
    """Remove the links of a pod that lead to ``target``, a log or the directory of all its logs."""
    prefix = f"{pod.metadata.name}_{pod.metadata.namespace}_"
    directory = directory_of(pod_logs)
    with contextlib.suppress(FileNotFoundError):
        for link in directory.iterdir():
            if not link.name.startswith(prefix) or not link.is_symlink():
                continue
            leads_to = link.readlink()
            if leads_to == target or target in leads_to.parents:
                link.unlink(missing_ok=True)
