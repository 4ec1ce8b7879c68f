"""Units of systemd (pure). systemd.service(5), systemd.exec(5), systemd.resource-control(5).

The runtime and the kubelet get none of the settings that give a service a mount namespace of its
own (ProtectSystem=, PrivateTmp=, ProtectKernelModules=, ReadWritePaths= and the like): volumes and
containers' roots are mounted by one of them and have to be seen by the other, by plug-ins on the
host, and by pods with mountPropagation. Nor does the runtime get what its children would inherit:
a filter of system calls, fewer capabilities or NoNewPrivileges= would hold in all containers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from kubeletpy.install import commands, places
from kubeletpy.install.installation import NodeInstallation, ServerChoice
from kubeletpy.install.rendered import HEADER, Rendered

TARGET: Final = "kubeletpy.target"
APISERVER: Final = "kubeletpy-apiserver.service"
CONTROLLERS: Final = "kubeletpy-controllers.service"
DNS: Final = "kubeletpy-dns.service"
RUNTIME: Final = "kubeletpy-runtime.service"
KUBELET: Final = "kubeletpy-kubelet.service"
PROXY: Final = "kubeletpy-proxy.service"
ALL: Final = (APISERVER, CONTROLLERS, DNS, RUNTIME, KUBELET, PROXY)
"""In the order of starting."""
WAVES: Final = ((APISERVER,), (CONTROLLERS, DNS, RUNTIME), (KUBELET,), (PROXY,))
"""Those that can be started beside each other."""
USER: Final = "kubeletpy-apiserver"

Settings = list[tuple[str, str] | str]
"""Keys and values of a section; a text alone is a comment."""

_HOME: Final = ("ProtectHome", "yes")
_SANDBOX: Final[Settings] = [
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    _HOME,
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
    ("KeyringMode", "private"),
    ("UMask", "0077"),
]
_UNPRIVILEGED: Final[Settings] = [
    *_SANDBOX,
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("ProcSubset", "pid"),
    ("PrivateUsers", "yes"),
    ("RemoveIPC", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
    ("InaccessiblePaths", "-/boot -/mnt -/media"),
]


def rendered(one: NodeInstallation) -> list[Rendered]:
    """Return all units of an installation, the target first."""
    services = {name: _SERVICES[name](one) for name in names(one)}
    units = {TARGET: _target(one), **services}
    return [Rendered(places.UNITS / name, text) for name, text in units.items()]


def names(one: NodeInstallation) -> tuple[str, ...]:
    """Return the services of an installation, in the order of starting."""
    wanted = {
        APISERVER: one.server is not None,
        CONTROLLERS: one.server is not None,
        DNS: one.server is not None,
        RUNTIME: one.own_runtime,
        KUBELET: one.runs_pods,
        PROXY: one.runs_pods and one.proxy,
    }
    return tuple(name for name in ALL if wanted[name])


def _target(one: NodeInstallation) -> str:
    what = "server" if one.server else "node"
    return _text({
        "Unit": [
            ("Description", f"kubeletpy {what}: all of its services"),
            ("Documentation", "man:systemd.target(5)"),
            ("Wants", " ".join(names(one))),
        ],
        "Install": [("WantedBy", "multi-user.target")],
    })  # fmt: skip


def _apiserver(one: NodeInstallation) -> str:
    return _service(
        one,
        "kubeletpy API server",
        commands.apiserver(one),
        after=["network-online.target"],
        settings=[
            ("User", USER),
            ("WorkingDirectory", "/"),
            ("ReadWritePaths", str(places.APISERVER)),
            ("TimeoutStartSec", "10min"),
            ("OOMScoreAdjust", "-900"),
            ("LimitNOFILE", "1048576"),
            *_UNPRIVILEGED,
        ],
    )


def _controllers(one: NodeInstallation) -> str:
    server = one.server
    assert server is not None
    return _service(
        one,
        "kubeletpy controllers, scheduler and metrics",
        commands.controllers(one),
        after=[APISERVER],
        settings=[
            ("DynamicUser", "yes"),
            ("LoadCredential", f"kubeconfig:{places.APISERVER}/admin.kubeconfig"),
            ("LoadCredential", f"authority:{places.APISERVER}/pki/ca.crt"),
            ("TimeoutStartSec", "10min"),
            ("OOMScoreAdjust", "-500"),
            *_controllers_sandbox(server),
        ],
    )


def _controllers_sandbox(server: ServerChoice) -> Settings:
    """Return the sandbox of the controllers, as wide as what they were asked for needs."""
    # The election's identity is of /proc/sys/kernel/random/boot_id.
    sandbox: Settings = [entry for entry in _UNPRIVILEGED if entry != ("ProcSubset", "pid")]
    rights = [
        ("Removing a volume means to remove files of the users of pods.", server.storage,
         "CAP_DAC_OVERRIDE CAP_FOWNER"),
        ("Ingresses are served at ports 80 and 443.", server.ingress, "CAP_NET_BIND_SERVICE"),
        ("Addresses of load balancers are put on a link, and told by ARP.",
         bool(server.balancer_link), "CAP_NET_ADMIN CAP_NET_RAW"),
    ]  # fmt: skip
    given = [(why, what) for why, wanted, what in rights if wanted]
    if not given:
        return sandbox
    capabilities = " ".join(what for _, what in given)
    changed = {
        "CapabilityBoundingSet": capabilities,
        "AmbientCapabilities": capabilities,
        # In a namespace of users of its own, they would count for nothing.
        "PrivateUsers": "no",
    }
    if server.balancer_link:
        families = "AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET"
        changed["RestrictAddressFamilies"] = families
    narrowed = [
        (entry[0], changed.get(entry[0], entry[1])) if isinstance(entry, tuple) else entry
        for entry in sandbox
        if entry != ("SystemCallFilter", "~@privileged @resources")
    ]
    found: Settings = [*(f"# {why}" for why, _ in given), *narrowed]
    if server.storage:
        found.append(("ReadWritePaths", str(places.STORAGE)))
    if server.ingress:
        found += [("RuntimeDirectory", commands.INGRESS), ("RuntimeDirectoryMode", "0700")]
    return found


def _dns(one: NodeInstallation) -> str:
    return _service(
        one,
        "kubeletpy DNS of the cluster",
        commands.dns(one),
        after=[APISERVER],
        settings=[
            ("DynamicUser", "yes"),
            ("LoadCredential", f"kubeconfig:{places.DNS_KUBECONFIG}"),
            "# It is ready when it knows all Services.",
            ("TimeoutStartSec", "infinity"),
            ("OOMScoreAdjust", "-900"),
            ("LimitNOFILE", "65536"),
            *_UNPRIVILEGED,
        ],
    )


def _runtime(one: NodeInstallation) -> str:
    return _service(
        one,
        "kubeletpy container runtime",
        commands.runtime(one),
        after=["network.target", "local-fs.target"],
        online=False,
        restart="1",
        settings=[
            ("TimeoutStartSec", "10min"),
            "# Pods outlive the daemon: their shims are not its to end, also when it hangs.",
            ("KillMode", "process"),
            "# Cgroups of pods made by the driver cgroupfs, and what shims do in their own.",
            ("Delegate", "yes"),
            ("OOMScoreAdjust", "-999"),
            ("TasksMax", "infinity"),
            ("LimitNOFILE", "1048576"),
            ("LimitNPROC", "infinity"),
            ("LimitCORE", "infinity"),
            "# No sandbox, and no namespace of mounts: see the documentation (docs/installing.md).",
        ],
    )


def _kubelet(one: NodeInstallation) -> str:
    after = [RUNTIME] if one.own_runtime else ["containerd.service", "crio.service"]
    after += [APISERVER] if one.server else []
    return _service(
        one,
        "kubeletpy kubelet",
        commands.kubelet(one),
        after=after,
        settings=[
            "# It waits for its certificate, and machines are slow when they boot.",
            ("TimeoutStartSec", "10min"),
            "# Mount helpers (NFS, FUSE) that it started keep volumes alive.",
            ("KillMode", "process"),
            ("Delegate", "yes"),
            ("OOMScoreAdjust", "-999"),
            ("TasksMax", "infinity"),
            ("LimitNOFILE", "1048576"),
            "# No namespace of mounts: what it mounts has to be seen by runtime and plug-ins.",
            ("CapabilityBoundingSet",
             "~CAP_SYS_TIME CAP_SYS_BOOT CAP_SYS_PACCT CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_LEASE "
             "CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_SYS_RAWIO CAP_SYS_TTY_CONFIG"),
            ("LockPersonality", "yes"),
            ("RestrictRealtime", "yes"),
            ("SystemCallArchitectures", "native"),
            ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET"),
        ],
    )  # fmt: skip


def _proxy(one: NodeInstallation) -> str:
    return _service(
        one,
        "kubeletpy service proxy",
        commands.proxy(one),
        after=[KUBELET, *([APISERVER] if one.server else [])],
        restart="2",
        settings=[
            "# It waits for the API server's lists before it says that it is ready.",
            ("TimeoutStartSec", "infinity"),
            ("OOMScoreAdjust", "-999"),
            *_SANDBOX,
            "# Rules, conntrack and the lock of iptables; sysctls of the network.",
            ("CapabilityBoundingSet", "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE"),
            ("ReadWritePaths", "/run"),
            ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
            ("SystemCallFilter", "@system-service"),
            ("SystemCallFilter", "~@resources"),
            ("InaccessiblePaths", "-/boot -/mnt -/media"),
        ],
    )


_SERVICES: Final = {
    APISERVER: _apiserver,
    CONTROLLERS: _controllers,
    DNS: _dns,
    RUNTIME: _runtime,
    KUBELET: _kubelet,
    PROXY: _proxy,
}


def _service(
    one: NodeInstallation,
    description: str,
    command: Iterable[str],
    *,
    after: list[str],
    settings: Settings,
    online: bool = True,
    restart: str = "5",
) -> str:
    """Return a unit; ``Wants=``, not ``Requires=``: daemons wait for each other by themselves."""
    if any(word.startswith(("/home/", "/root/")) for word in one.program):
        # A program of a user's directory has to be seen.
        settings = [("ProtectHome", "read-only") if entry == _HOME else entry for entry in settings]
    ordered = list(dict.fromkeys([*(["network-online.target"] if online else []), *after]))
    return _text({
        "Unit": [
            ("Description", description),
            ("Documentation", "man:systemd.service(5)"),
            ("Wants", " ".join(ordered)),
            ("After", " ".join(ordered)),
            ("PartOf", TARGET),
            "# However often it fails, it is tried again.",
            ("StartLimitIntervalSec", "0"),
        ],
        "Service": [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("ExecStart", " \\\n    ".join(_quoted(word) for word in command)),
            ("Environment", "PYTHONDONTWRITEBYTECODE=1"),
            ("Restart", "always"),
            ("RestartSec", restart),
            "# One that hangs is started anew; pods go on.",
            ("WatchdogSec", "60"),
            *settings,
        ],
        "Install": [("WantedBy", TARGET)],
    })  # fmt: skip


def _quoted(word: str) -> str:
    """Return a word of a command line as systemd.service(5) reads it."""
    word = word.replace("%", "%%").replace("$", "$$")
    # The directory of credentials is for systemd to fill in.
    for each in (commands.CREDENTIAL, commands.AUTHORITY):
        word = word.replace(each.replace("%", "%%"), each)
    return word if shlex.quote(word) == word else '"' + word.replace("\\", "\\\\").replace(
        '"', '\\"'
    ) + '"'  # fmt: skip


def _text(sections: Mapping[str, Settings]) -> str:
    parts = [HEADER]
    for name, entries in sections.items():
        lines = [entry if isinstance(entry, str) else f"{entry[0]}={entry[1]}" for entry in entries]
        parts.append(f"[{name}]\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def unit_path(name: str) -> Path:
    """Return the file of a unit."""
    return places.UNITS / name
