"""Links to the logs of containers in /var/log/containers, where collectors of logs look for them.

As the Go kubelet: ``POD_NAMESPACE_CONTAINER-ID.log``, which leads to the file below ``podLogsDir``.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.core import Core
from kubeletpy.cri.container_config import log_path
from kubeletpy.cri.node import DEFAULT_POD_LOGS
from kubeletpy.cri.sandbox_config import pod_log_directory
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
DIRECTORY: Final = Path("/var/log/containers")
_LONGEST: Final = 251
_SUFFIX: Final = ".log"


def install(core: Core) -> None:
    """Keep the links, where logs are where collectors expect them."""
    if str(core.facts.pod_logs) != DEFAULT_POD_LOGS:
        return
    links = LogLinks(core, DIRECTORY)
    links.sweep()
    core.on_status.append(links.update)
    core.on_gone.append(links.remove)


class LogLinks:
    """The links of one kubelet.

    Args:
        core: the kubelet's parts.
        directory: of the links.
    """

    def __init__(self, core: Core, directory: Path) -> None:
        self._core = core
        self._directory = directory
        self._made: dict[str, dict[Path, Path]] = {}

    def sweep(self) -> None:
        """Remove links to logs that are no more."""
        try:
            listed = list(self._directory.iterdir()) if self._directory.is_dir() else []
        except OSError:
            return
        for link in listed:
            with contextlib.suppress(OSError):
                inside = Path(os.readlink(link)).is_relative_to(self._core.facts.pod_logs)
                if inside and not link.exists():
                    link.unlink()

    def update(self, pod: Pod, status: PodStatus) -> None:
        """Link to the logs of the containers that a status names, and to no others."""
        known = self._made.setdefault(pod.metadata.uid, {})
        directory = pod_log_directory(pod, self._core.facts)
        for one in (
            *status.init_container_statuses,
            *status.container_statuses,
            *status.ephemeral_container_statuses,
        ):
            container_id = one.container_id.partition("://")[2]
            if not container_id:
                continue
            link = self._directory / link_name(pod, one.name, container_id)
            if link not in known:
                self._link(link, directory / log_path(one.name, one.restart_count), known)
        for link in [link for link, target in known.items() if not target.exists()]:
            self._unlink(link, known)

    def remove(self, pod: Pod) -> None:
        """Remove the links of a pod."""
        known = self._made.pop(pod.metadata.uid, {})
        for link in list(known):
            self._unlink(link, known)

    def _link(self, link: Path, target: Path, known: dict[Path, Path]) -> None:
        if not target.exists():
            # Not written to yet, or a container without a log.
            return
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            link.symlink_to(target)
        except FileExistsError:
            # Of the kubelet before this one.
            pass
        except OSError as error:
            logs.event(
                _log, logging.WARNING, "cannot link to a log", link=str(link), reason=str(error)
            )
            return
        known[link] = target

    @staticmethod
    def _unlink(link: Path, known: dict[Path, Path]) -> None:
        known.pop(link, None)
        with contextlib.suppress(OSError):
            link.unlink()


def link_name(pod: Pod, container: str, container_id: str) -> str:
    """Return the name of a link (pure)."""
    meta = pod.metadata
    name = f"{meta.name}_{meta.namespace}_{container}-{container_id}"
    return name[:_LONGEST] + _SUFFIX
