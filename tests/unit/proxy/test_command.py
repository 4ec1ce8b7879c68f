"""The command line, with rules in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner, Result

from kubeletpy_common.ports import free_port
from proxy import daemon
from proxy.backend import RuleOptions, Synced, SyncError, Wanted
from proxy.command import main
from proxy.errors import StartError
from proxy.model.portal import Family
from proxy.settings.configuration import API_VERSION, KIND
from proxy.settings.flags import FIELDS, NO_EFFECT, PORTS, settings_of_flags
from tests.unit.proxy.fakes import Remembering

OBJECTS = {"kind": "Service", "metadata": {"name": "web"},
           "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}  # fmt: skip


class Machine:
    """The rules of all modes and families, in memory."""

    def __init__(self) -> None:
        self.backends: dict[tuple[str, Family], Remembering] = {}
        self.cleaned: list[tuple[str, Family]] = []
        self.options: list[RuleOptions] = []
        self.kernel = 0
        self.moved: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, looking whenever rules were written."""
        event = asyncio.Event()
        self.moved = (asyncio.get_running_loop(), event)
        while not condition():
            await event.wait()
            event.clear()

    def open(self, mode: str, options: RuleOptions) -> Remembering:
        self.options.append(options)
        return self.backends.setdefault((mode, options.family), _Cleaned(self, mode, options))


class _Cleaned(Remembering):
    def __init__(self, machine: Machine, mode: str, options: RuleOptions) -> None:
        super().__init__()
        self._machine, self._name = machine, (mode, options.family)
        self.stuck = False

    def sync(self, wanted: Wanted) -> Synced:
        done = super().sync(wanted)
        if self._machine.moved is not None:
            loop, event = self._machine.moved
            loop.call_soon_threadsafe(event.set)
        return done

    def cleanup(self) -> None:
        if self.stuck:
            raise SyncError("table is busy")
        self._machine.cleaned.append(self._name)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine()
    monkeypatch.setattr(daemon, "open_backend", one.open)
    monkeypatch.setattr("proxy.options.families", lambda: (Family.V4,))

    def set_up(_: daemon.Daemon) -> None:
        one.kernel += 1

    monkeypatch.setattr(daemon.Daemon, "set_up_kernel", set_up)
    return one


@pytest.fixture
def objects(tmp_path: Path) -> str:
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(OBJECTS))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_dry_run_prints_and_changes_nothing(machine: Machine, objects: str) -> None:
    result = run("--objects", objects, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "default/web\n")
    assert not machine.kernel
    assert not machine.cleaned
    assert not machine.backends["iptables", Family.V4].wanted


def test_once_writes_and_removes_what_the_other_mode_left(machine: Machine, objects: str) -> None:
    result = run("--input", objects, "--once", "--proxy-mode=nftables", "--masquerade_all")
    assert result.exit_code == 0
    assert machine.backends["nftables", Family.V4].rules
    assert set(machine.cleaned) == {("iptables", Family.V4), ("iptables", Family.V6)}
    assert machine.kernel == 1
    assert any(options.masquerade_all for options in machine.options)


def test_once_fails_if_rules_cannot_be_written(machine: Machine, objects: str) -> None:
    machine.open("iptables", RuleOptions(Family.V4)).failing = 1
    result = run("--objects", objects, "--once")
    assert result.exit_code == 1
    assert "rules could not be written" in result.stderr


def test_cleanup_is_of_all_modes_and_families(machine: Machine) -> None:
    assert run("--cleanup").exit_code == 0
    assert len(set(machine.cleaned)) == 4
    assert not machine.kernel


def test_cleanup_goes_on_after_a_failure_and_tells_it(machine: Machine) -> None:
    backend = machine.open("iptables", RuleOptions(Family.V4))
    assert isinstance(backend, _Cleaned)
    backend.stuck = True
    result = run("--cleanup")
    assert result.exit_code == 1
    assert "iptables, V4: table is busy" in result.stderr
    assert len(machine.cleaned) == 3


def test_the_configuration_can_be_written(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert run("--proxy-mode", "nftables", "--write-config-to", str(path)).exit_code == 0
    written: dict[str, Any] = yaml.safe_load(path.read_text())
    assert (written["kind"], written["mode"]) == ("KubeProxyConfiguration", "nftables")
    assert run("--config", str(path), "--init-only").exit_code == 0
    assert machine.kernel == 1


async def test_it_runs_until_it_is_told_to_stop(
    machine: Machine, objects: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole daemon: objects of a file, health, metrics, a change, SIGTERM."""
    health, metrics = free_port(), free_port()
    settings = settings_of_flags(None, {
        "healthz-bind-address": f"127.0.0.1:{health}",
        "metrics-bind-address": f"127.0.0.1:{metrics}", "iptables-min-sync-period": "0s",
    })  # fmt: skip
    task = asyncio.create_task(daemon.Daemon(settings, Path(objects)).run())
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        backend = machine.open("iptables", RuleOptions(Family.V4))
        await machine.until(lambda: backend.rules)
        async with session.get(f"http://127.0.0.1:{health}/healthz") as answer:
            assert (answer.status, (await answer.json())["nodeEligible"]) == (200, True)
        async with session.get(f"http://127.0.0.1:{metrics}/proxyMode") as answer:
            assert await answer.text() == "iptables"
        other = {**OBJECTS, "metadata": {"name": "other"}, "spec": {
            "clusterIP": "10.0.0.2", "ports": [{"port": 80}]}}  # fmt: skip
        new = Path(objects).with_name("new")
        new.write_text(json.dumps({"kind": "List", "items": [OBJECTS, other]}))
        new.rename(objects)
        await machine.until(lambda: len(backend.rules) == 2)
        assert not task.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert backend.closed
    assert len(backend.rules) == 2


async def test_it_ends_when_its_configuration_changes(
    machine: Machine, objects: str, tmp_path: Path
) -> None:
    """As in the peer: it is started anew and reads the new one."""
    directory = tmp_path / "etc"
    directory.mkdir()
    path = directory / "config.yaml"
    head = f"kind: {KIND}\napiVersion: {API_VERSION}\n"
    path.write_text(head + f"healthzBindAddress: 127.0.0.1:{free_port()}\n"
                    f"metricsBindAddress: 127.0.0.1:{free_port()}\n")  # fmt: skip
    task = asyncio.create_task(daemon.Daemon(settings_of_flags(path, {}), Path(objects)).run())
    async with asyncio.timeout(20):
        backend = machine.open("iptables", RuleOptions(Family.V4))
        await machine.until(lambda: backend.rules)
        path.write_text(path.read_text())
        (directory / "other").write_text("x")
        path.write_text(head)
        with pytest.raises(StartError, match="configuration file was updated"):
            await task
    assert backend.closed
    assert backend.rules


async def test_an_address_that_is_taken_is_the_end_if_it_is_to_be(
    machine: Machine, objects: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_of_flags(None, {
            "healthz-bind-address": f"127.0.0.1:{taken.getsockname()[1]}",
            "metrics-bind-address": f"127.0.0.1:{free_port()}", "bind-address-hard-fail": "true",
        })  # fmt: skip
        async with asyncio.timeout(20):
            with pytest.raises(StartError, match="healthz cannot listen on"):
                await daemon.Daemon(settings, Path(objects)).run()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--proxy-mode", "ipvs"], "mode: there is no mode ipvs"),
        (["--config", "/nowhere"], "--config /nowhere: No such file"),
        (["--objects", "/nowhere", "--once"], "/nowhere: No such file"),
        (["--master", "nonsense", "--dry-run"], "--master 'nonsense' is no URL"),
        (["--kubeconfig", "/nowhere", "--once"], "kubeconfig /nowhere"),
    ],
)
def test_errors_are_one_line(machine: Machine, arguments: list[str], reason: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("kube-proxy: ")
    assert reason in last


def test_help_tells_what_one_needs_first_and_help_all_everything() -> None:
    short, full = run("--help").output, run("--help-all").output
    assert "--kubeconfig" in short
    assert "--ipvs-scheduler" not in short
    for name in FIELDS.keys() | PORTS.keys() | NO_EFFECT:
        assert f"--{name} " in full
