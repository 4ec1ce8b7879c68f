from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubeletpy.plugins import watcher as module
from kubeletpy.plugins.watcher import PluginRefused, PluginWatcher
from tests.support.device_plugin import Registrar


class Handler:
    """Takes plug-ins whose version it knows; what happens is a queue of words."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[str] = asyncio.Queue()
        self.broken = ""

    def validate(self, name: str, endpoint: str, versions: list[str]) -> None:
        if "1.0.0" not in versions:
            raise PluginRefused(f"versions {versions}")

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        self.seen.put_nowait(f"+{name}@{Path(endpoint).name}")
        if self.broken:
            raise PluginRefused(self.broken)

    async def deregister(self, name: str, endpoint: str) -> None:
        self.seen.put_nowait(f"-{name}@{Path(endpoint).name}")

    async def next(self) -> str:
        async with asyncio.timeout(10):
            return await self.seen.get()


@pytest.fixture
async def made(
    sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Path, Handler, list[Registrar]]]:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    handler = Handler()
    registrars: list[Registrar] = []
    watcher = PluginWatcher(sockets / "r", {"CSIPlugin": handler})
    (sockets / "r").mkdir()
    task = asyncio.create_task(watcher.run())
    yield sockets / "r", handler, registrars
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for registrar in registrars:
        await registrar.stop()


async def start(
    path: Path, registrars: list[Registrar], kind: str = "CSIPlugin", versions: str = "1.0.0"
) -> Registrar:
    registrar = Registrar(path, kind, "driver", "/run/csi.sock", versions)
    registrars.append(registrar)
    return await registrar.start()


async def test_plugins_come_and_go(made: tuple[Path, Handler, list[Registrar]]) -> None:
    directory, handler, registrars = made
    registrar = await start(directory / "a.sock", registrars)
    assert await handler.next() == "+driver@csi.sock"
    assert await asyncio.wait_for(registrar.told.get(), 10) == (True, "")
    await registrar.stop()
    assert await handler.next() == "-driver@csi.sock"
    again = await start(directory / "a.sock", registrars)
    assert await handler.next() == "+driver@csi.sock"
    assert await asyncio.wait_for(again.told.get(), 10) == (True, "")
    assert handler.seen.empty()


async def test_sockets_below_are_found_and_hidden_ones_are_not(
    made: tuple[Path, Handler, list[Registrar]],
) -> None:
    directory, handler, registrars = made
    await start(directory / ".hidden.sock", registrars)
    (directory / "deep").mkdir()
    (directory / "deep" / "no-socket").touch()
    await start(directory / "deep" / "a.sock", registrars)
    assert await handler.next() == "+driver@csi.sock"
    assert handler.seen.empty()


async def test_a_plugin_that_was_there_before_is_found(sockets: Path) -> None:
    handler, registrars = Handler(), list[Registrar]()
    registrar = await start(sockets / "a.sock", registrars)
    task = asyncio.create_task(PluginWatcher(sockets, {"CSIPlugin": handler}).run())
    assert await handler.next() == "+driver@csi.sock"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await registrar.stop()


@pytest.mark.parametrize(
    ("kind", "versions", "message"),
    [
        ("DRAPlugin", "1.0.0", "no handler registered for plugin type: DRAPlugin at socket"),
        ("CSIPlugin", "9.0.0", "plugin validation failed with err: versions ['9.0.0']"),
    ],
)
async def test_plugins_that_are_not_taken_are_told_why(
    made: tuple[Path, Handler, list[Registrar]], kind: str, versions: str, message: str
) -> None:
    directory, _, registrars = made
    registrar = await start(directory / "a.sock", registrars, kind, versions)
    registered, error = await asyncio.wait_for(registrar.told.get(), 10)
    assert not registered
    assert message in error


async def test_what_fails_is_tried_again(made: tuple[Path, Handler, list[Registrar]]) -> None:
    directory, handler, registrars = made
    handler.broken = "the API server is away"
    registrar = await start(directory / "a.sock", registrars)
    assert await asyncio.wait_for(registrar.told.get(), 10) == (
        False,
        "RegisterPlugin error -- plugin registration failed with err: the API server is away",
    )
    handler.broken = ""
    async with asyncio.timeout(10):
        while not (await registrar.told.get())[0]:
            pass


async def test_a_socket_made_anew_is_another_plugin(
    made: tuple[Path, Handler, list[Registrar]],
) -> None:
    directory, handler, registrars = made
    await start(directory / "a.sock", registrars)
    assert await handler.next() == "+driver@csi.sock"
    other = await start(directory / ".b.sock", registrars)
    (directory / ".b.sock").rename(directory / "a.sock")
    assert await handler.next() == "-driver@csi.sock"
    assert await handler.next() == "+driver@csi.sock"
    assert await asyncio.wait_for(other.told.get(), 10) == (True, "")
