"""The virtual machine as an administrator sets it up: units, logind, an uplink, an NFS server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

from kubeletpy.install import units
from kubeletpy.install.installation import NodeInstallation
from tests.root.runtime.cri.node import wait_until

UNITS = Path("/etc/systemd/system")
KUBELET, RUNTIME = "kubeletpy-kubelet.service", "kubeletpy-runtime.service"
CONFIG = Path("/var/lib/kubelet/config.yaml")
BOOTSTRAP = Path("/etc/kubernetes/bootstrap-kubelet.conf")
KUBECONFIG = Path("/etc/kubernetes/kubelet.conf")
TOKEN = ("abcdef", "0123456789abcdef")
NODE = "vm"
SECONDS = 600.0
"""Emulated, a daemon takes that long at worst."""
GRACE, CRITICAL = 60, 20
LOGIN = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")


def run(*command: str, text: str = "", seconds: float = SECONDS) -> str:
    """Run a command that succeeds; return its output."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def shown(unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit."""
    output = run("systemctl", "show", f"--property={','.join(properties)}", unit)
    return dict(line.split("=", 1) for line in output.splitlines())


def main_pid(unit: str) -> int:
    """Return the main process of a service; 0: none."""
    return int(shown(unit, "MainPID")["MainPID"])


def logind(method: str, *arguments: str) -> Any:
    """Call logind; return the answer."""
    output = run("busctl", "--json=short", "call", *LOGIN, method, *arguments)
    return json.loads(output)["data"] if output.strip() else None


def inhibitors() -> list[list[Any]]:
    """Return the locks of the kubelet: what, who, why, mode, uid, pid."""
    return [one for one in logind("ListInhibitors")[0] if one[1] == "kubelet"]


def longest_delay() -> float:
    """Return how long logind lets a shutdown wait, in seconds."""
    service, path, interface = LOGIN
    command = ("busctl", "--json=short", "get-property", service, path, interface)
    return float(json.loads(run(*command, "InhibitDelayMaxUSec"))["data"]) / 1e6


def log_of(unit: str) -> str:
    """Return the end of what a service wrote."""
    path = Path("/var/log") / f"{unit}.log"
    return path.read_text(errors="replace")[-4000:] if path.exists() else ""


def set_up_network() -> None:
    """Make an uplink: a node has an address, and that is the one its default route sends from."""
    if run("ip", "route", "show", "default"):
        return
    for command in (
        "ip link set lo up",
        "ip link add uplink type veth peer name beyond",
        "ip link set beyond up",
        "ip address add 10.9.0.1/24 dev uplink",
        "ip link set uplink up",
        "ip route add default via 10.9.0.2",
    ):
        run(*command.split())
    # Until then IPv6 addresses and their routes are not all there.
    tentative = ("ip", "address", "show", "tentative")
    wait_until(lambda: not run(*tentative), "addresses of the uplink are in use", SECONDS)


def install(server: str, authority: Path) -> None:
    """Install units as `kubeletpy install` has them, the command, and the kubelet's configuration.

    Args:
        server: URL of the API server.
        authority: file of its certificate authority.
    """
    command = Path("/usr/local/bin/kubeletpy")
    paths = os.environ["PYTHONPATH"]
    # In a checkout `python -m kubeletpy` makes an environment first; there is one already.
    command.write_text(
        "#!/bin/sh\ncase $1 in kubelet) module=kubeletpy.kubelet_main;; *) module=$1;; esac\n"
        f"shift\nPYTHONPATH={paths} PYTHONDONTWRITEBYTECODE=1 exec {sys.executable} -X utf8 -P "
        '-m "$module" "$@"\n'
    )
    command.chmod(0o755)
    runtime = Path("/etc/kubeletpy/runtime.toml")
    for path in (runtime, CONFIG, BOOTSTRAP):
        path.parent.mkdir(parents=True, exist_ok=True)
    runtime.write_text('[cgroups]\ndriver = "systemd"\n')
    chosen = NodeInstallation(role="node", program=(str(command),), node_name=NODE)
    rendered = {each.path.name: each.text for each in units.rendered(chosen)}
    flags = f"kubelet --config {CONFIG} --kubeconfig {KUBECONFIG}"
    flags += f" --bootstrap-kubeconfig {BOOTSTRAP} --root-dir {CONFIG.parent}"
    for unit in (RUNTIME, KUBELET):
        (UNITS / unit).write_text(rendered[unit])
        (UNITS / f"{unit}.d").mkdir(exist_ok=True)
        # There is no journal here; and a test need not wait as long as a node would.
        settings = f"StandardError=append:/var/log/{unit}.log\nRestartSec=1\nTimeoutStartSec=600\n"
        if unit == KUBELET:  # in the places of a Go kubelet
            settings += f"ExecStart=\nExecStart={command} {flags}\n"
        (UNITS / f"{unit}.d" / "test.conf").write_text(
            # Without what else a boot starts before services.
            f"[Unit]\nDefaultDependencies=no\n[Service]\n{settings}"
        )
    CONFIG.write_text(
        textwrap.dedent(f"""\
        apiVersion: kubelet.config.k8s.io/v1beta1
        kind: KubeletConfiguration
        cgroupDriver: systemd
        containerRuntimeEndpoint: unix:///run/kubeletpy/runtime.sock
        authentication: {{x509: {{clientCAFile: {authority}}}}}
        rotateCertificates: true
        shutdownGracePeriod: {GRACE}s
        shutdownGracePeriodCriticalPods: {CRITICAL}s
        evictionHard: {{memory.available: 50Mi}}
        """)
    )
    cluster = {"server": server, "certificate-authority": str(authority)}
    BOOTSTRAP.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": ".".join(TOKEN)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    run("systemctl", "daemon-reload")


def start_logind() -> None:
    """Start logind without what a desktop's boot would start with it."""
    for unit in ("dbus.socket", "dbus.service", "systemd-logind.service"):
        drop_in = Path("/run/systemd/system", f"{unit}.d")
        drop_in.mkdir(parents=True)
        (drop_in / "alone.conf").write_text("[Unit]\nDefaultDependencies=no\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "dbus.socket")
    run("systemctl", "start", "systemd-logind.service")


def serve_nfs(directory: Path) -> None:
    """Export a directory by NFS 4."""
    directory.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "export", str(directory))
    for module in ("nfs", "nfsd"):
        run("modprobe", module)
    run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    run("rpc.mountd", "--no-nfs-version", "3")
    run("exportfs", "-o", "rw,no_root_squash,insecure,no_subtree_check,fsid=0",
        f"127.0.0.1:{directory}")  # fmt: skip
    run("rpc.nfsd", "--no-nfs-version", "3", "--grace-time", "10", "--lease-time", "10", "2")


def wait_started(unit: str, other_than: int) -> int:
    """Wait until a service is active with a new main process, and return that."""
    wait_until(
        lambda: (
            shown(unit, "ActiveState")["ActiveState"] == "active"
            and main_pid(unit) not in (0, other_than)
        ),
        f"{unit} to be started anew", SECONDS,
    )  # fmt: skip
    return main_pid(unit)
