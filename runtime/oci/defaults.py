"""What a container gets without asking: the defaults that containerd's CRI plugin documents."""

from __future__ import annotations

from typing import Any, Final

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

PROC_MOUNT: Final[dict[str, Any]] = {
    "destination": "/proc",
    "type": "proc",
    "source": "proc",
    "options": ["nosuid", "noexec", "nodev"],
}
DEFAULT_MOUNTS: Final[tuple[dict[str, Any], ...]] = (
    PROC_MOUNT,
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/mqueue",
        "type": "mqueue",
        "source": "mqueue",
        "options": ["nosuid", "noexec", "nodev"],
    },
)
SYS_OPTIONS: Final = ("nosuid", "noexec", "nodev")
CGROUP_OPTIONS: Final = ("nosuid", "noexec", "nodev", "relatime")


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


# Everything is denied first. mknod of anything is allowed, since a node alone opens nothing;
# then the devices that every container has: null, zero, full, random, urandom, tty, console,
# the pseudo terminals of its own devpts instance, and ptmx (OCI config-linux.md, "Default
# Devices" and "Allowed Device list").
DEFAULT_DEVICE_RULES: Final[tuple[dict[str, Any], ...]] = (
    {"allow": False, "access": "rwm"},
    _rule("c", None, None, "m"),
    _rule("b", None, None, "m"),
    _rule("c", 1, 3, "rwm"),
    _rule("c", 1, 5, "rwm"),
    _rule("c", 1, 7, "rwm"),
    _rule("c", 1, 8, "rwm"),
    _rule("c", 1, 9, "rwm"),
    _rule("c", 5, 0, "rwm"),
    _rule("c", 5, 1, "rwm"),
    _rule("c", 5, 2, "rwm"),
    _rule("c", 136, None, "rwm"),
)
ALL_DEVICES_RULE: Final[dict[str, Any]] = {"allow": True, "access": "rwm"}
