"""The systemd cgroup driver: pods are slices, containers are scopes, systemd owns the tree.

On a machine whose PID 1 is systemd the tree of cgroups has one writer. So this driver has systemd
make slices and scopes, and gives it the limits as properties of theirs: a limit that systemd does
not know of can be gone after the next ``systemctl daemon-reload``. What systemd has no property
for (huge pages, devices, most of ``unified``) is written to files of scopes, which are delegated
to us (systemd: CGROUP_DELEGATION.md).

:func:`open_systemd` gives a hierarchy like any other; :mod:`.names` converts between slices and
cgroup paths. Cgroup v2 only.
"""

from __future__ import annotations

from kubeletpy_common.cgroups.systemd.cgroup import CgroupsSystemd, SystemdScope, open_systemd
from kubeletpy_common.cgroups.systemd.names import scope_path, slice_path

__all__ = ["CgroupsSystemd", "SystemdScope", "open_systemd", "scope_path", "slice_path"]
