"""Starts the proxy under test on a host of the lab: ours, or a peer's by the same configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient, python_path

from .objects import NODES
from .topology import CLUSTER_CIDRS, Namespace

PEER_VARIABLE: Final = "KUBELETPY_PEER_PROXY"
"""Names a kube-proxy to try instead of ours: what that one fails, the tests have wrong."""
REPOSITORY: Final = Path(__file__).parents[3]
HEALTH_PORT: Final = 10256
METRICS_PORT: Final = 10249
_STOP_SECONDS: Final = patient(10)
_TOOLS: Final = ("", "-save", "-restore")


@dataclass(frozen=True)
class Settings:
    """How the proxy is set up.

    Attributes:
        mode: ``iptables`` or ``nftables``.
        tools: back end of iptables: ``nft`` or ``legacy``.
        config: fields of KubeProxyConfiguration besides the usual ones, merged deeply.
        arguments: further words on the command line of ours.
        peer: path of another kube-proxy; "" for ours.
    """

    mode: str = "iptables"
    tools: str = "nft"
    config: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    peer: str = field(default_factory=lambda: os.environ.get(PEER_VARIABLE, ""))

    def document(self, kubeconfig: Path) -> dict[str, Any]:
        """Return the KubeProxyConfiguration."""
        usual: dict[str, Any] = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": self.mode,
            "hostnameOverride": NODES["node"],
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "detectLocalMode": "ClusterCIDR",
            "clusterCIDR": ",".join(CLUSTER_CIDRS.values()),
            "healthzBindAddress": f"0.0.0.0:{HEALTH_PORT}",
            "metricsBindAddress": f"127.0.0.1:{METRICS_PORT}",
            # The machine's own limits are not a namespace's to change.
            "conntrack": {
                "maxPerCore": 0, "min": 0,
                "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
            },
            "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
            "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
        }  # fmt: skip
        return _merged(usual, self.config)

    def with_config(self, **fields: Any) -> Settings:
        """Return the same with other fields of the configuration."""
        return replace(self, config=_merged(dict(self.config), fields))


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(base)
    for key, value in over.items():
        old = made.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            made[key] = _merged(old, value)
        else:
            made[key] = value
    return made


@dataclass
class Proxy:
    """One that runs in the node's namespace.

    Attributes:
        host: the node's namespace.
        settings: how it was set up.
        process: the daemon.
        log: what it printed.
    """

    host: Namespace
    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self.process.poll() is None

    def fetch(self, path: str, port: int = METRICS_PORT, address: str = "127.0.0.1") -> str:
        """GET from one of its ports, on the node."""
        url = f"http://{address}:{port}{path}"
        with (
            in_namespace(self.host.path),
            urllib.request.urlopen(url, timeout=patient(5)) as answer,
        ):
            return str(answer.read().decode())

    def metric(self, name: str, *labels: str) -> float:
        """Return the sum of a metric's samples whose line contains all of ``labels``.

        One that is known by its HELP line alone has no sample yet, and is 0.
        """
        text = self.fetch("/metrics")
        lines = [
            line
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{")) and all(each in line for each in labels)
        ]
        known = f"# HELP {name.removesuffix('_count')} " in text
        assert lines or known, f"no metric {name} with {labels}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process; its rules stay."""
        if self.alive():
            self.process.send_signal(how)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the proxy did not end by {how.name}\n{self.tail()}") from None

    def tail(self, size: int = 6000) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-size:]


def tools_directory(directory: Path, tools: str) -> Path:
    """Return a directory of the iptables commands of one back end, to be first in PATH."""
    made = directory / f"tools-{tools}"
    if not made.exists():
        made.mkdir(parents=True)
        for family in ("iptables", "ip6tables"):
            for stem in (family, f"{family}-{tools}"):
                for suffix in _TOOLS:
                    real = f"/usr/sbin/{family}-{tools}{suffix}"
                    (made / f"{stem}{suffix}").symlink_to(real)
    return made


def command(settings: Settings, directory: Path, server: str) -> list[str]:
    """Write configuration and kubeconfig; return the command line."""
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "lab",
                "clusters": [{"name": "lab", "cluster": {"server": server}}],
                "users": [{"name": "lab", "user": {"token": "none"}}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            }
        )
    )  # fmt: skip
    config = directory / "config.yaml"
    config.write_text(json.dumps(settings.document(kubeconfig)))
    program = [settings.peer] if settings.peer else [sys.executable, "-P", "-m", "proxy"]
    return [*program, "--config", str(config), *(() if settings.peer else settings.arguments)]


def start(
    host: Namespace, settings: Settings, directory: Path, server: str, number: int = 0
) -> Proxy:
    """Start the proxy in a host's network namespace, with a /run of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"proxy-{number}.log"
    with in_namespace(host.path), log.open("wb") as file:
        process = subprocess.Popen(
            inside_mounts(command(settings, directory, server)),
            env=environment(settings, directory), cwd=REPOSITORY,
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    return Proxy(host, settings, process, log)


def inside_mounts(words: list[str]) -> list[str]:
    """Return the command that runs ``words`` with a /run of their own: iptables' lock is there."""
    script = 'mount -t tmpfs tmpfs /run && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]


def environment(settings: Settings, directory: Path) -> dict[str, str]:
    """Return the variables for the proxy, and for whoever looks at its rules by the same tools."""
    tools = tools_directory(directory, settings.tools)
    path = f"{tools}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path(REPOSITORY)}


def cleanup(host: Namespace, settings: Settings, directory: Path) -> str:
    """Run ``--cleanup``; return what it printed."""
    program = [settings.peer] if settings.peer else [sys.executable, "-P", "-m", "proxy"]
    with in_namespace(host.path):
        done = subprocess.run(
            inside_mounts([*program, "--cleanup"]), env=environment(settings, directory),
            cwd=REPOSITORY, capture_output=True, text=True, timeout=patient(60),
        )  # fmt: skip
    assert done.returncode == 0, f"--cleanup: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextmanager
def deadline(seconds: float, what: str) -> Iterator[Any]:
    """Give a function that raises AssertionError once the time is over, else waits a moment."""
    end = time.monotonic() + seconds

    def turn(state: object = "") -> None:
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}; {state}")
        time.sleep(0.02)

    yield turn
