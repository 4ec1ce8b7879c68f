"""The processes that unpack layers: what they may do, and how they end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from runtime.images.errors import StoreError, UnsafeLayer
from runtime.images.metadata import Metadata
from runtime.snapshots.overlay import Snapshots
from runtime.unpacker import client
from runtime.unpacker.client import Layer, Unpacked, Unpacker
from runtime.unpacker.limits import UnpackLimits
from tests.support.circumstances import patient
from tests.support.ociimage import compress, digest_of, tar_layer

pytestmark = pytest.mark.root
_SECONDS = patient(20)


@pytest.fixture
async def unpacker(tmp_path: Path) -> AsyncIterator[Unpacker]:
    base = tmp_path / "snapshots"
    base.mkdir()
    found = Unpacker(base)
    yield found
    await found.close()


def layer(base: Path, data: bytes = b"content", number: int = 1) -> Layer:
    """Make room for a snapshot, and a blob for it."""
    tar = tar_layer({"dir/file": data})
    blob = base.parent / f"blob{number}"
    blob.write_bytes(compress(tar, "gzip"))
    (base / str(number) / "fs").mkdir(parents=True)
    return Layer(blob, digest_of(blob.read_bytes()), "gzip", digest_of(tar))


class Slow:
    """A layer that comes through a fifo, so that its job waits in the middle."""

    def __init__(self, base: Path, number: int = 1) -> None:
        whole = layer(base, os.urandom(100_000), number)
        self._data = whole.blob.read_bytes()
        fifo = base.parent / f"fifo{number}"
        os.mkfifo(fifo)
        # Opened for both directions: neither end waits for the other, and there is no end of file.
        self._pipe = os.open(fifo, os.O_RDWR)
        os.write(self._pipe, self._data[:30_000])
        self.layer = Layer(fifo, whole.digest, whole.compression, whole.diff_id)

    def close(self) -> None:
        os.close(self._pipe)


@pytest.fixture
async def slow(unpacker: Unpacker, tmp_path: Path) -> AsyncIterator[Slow]:
    found = Slow(tmp_path / "snapshots")
    yield found
    found.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not condition():  # noqa: ASYNC110 - processes of others tell nobody
            await asyncio.sleep(0.01)


async def started(unpacker: Unpacker, slow: Slow) -> tuple[asyncio.Task[Unpacked], int, int]:
    """Return a job that is in the middle of its work, its writer and its reader."""
    work = asyncio.create_task(unpacker.unpack(slow.layer, 1, UnpackLimits()))
    found: list[psutil.Process] = []

    def both() -> bool:
        nonlocal found
        if work.done():
            work.result()
        if unpacker.pid is None:
            return False
        found = psutil.Process(unpacker.pid).children(recursive=True)
        return len(found) == 2 and _limits(found[1]).endswith("0 0 processes")

    await until(both)
    writer, reader = found
    await until(lambda: _status(writer.pid, "NoNewPrivs") == "1")
    assert reader.ppid() == writer.pid
    return work, writer.pid, reader.pid


def _limits(process: psutil.Process) -> str:
    """Return the last thing that a reader gives up: to make processes."""
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    return " ".join(next(line for line in lines if line.startswith("Max processes")).split())


def _status(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise AssertionError(name)


async def test_what_the_processes_may_do(unpacker: Unpacker, slow: Slow) -> None:
    work, writer, reader = await started(unpacker, slow)
    # The reader holds its blob and its pipe, beside the three standard streams, and is nobody.
    assert _status(reader, "Uid").split() == ["65534"] * 4
    assert _status(reader, "Groups") == ""
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(_status(reader, capabilities), 16) == 0, capabilities
    assert len(os.listdir(f"/proc/{reader}/fd")) == 5
    assert _status(reader, "NoNewPrivs") == "1"
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SYS_ADMIN, MKNOD, SETFCAP.
    expected = sum(1 << number for number in (0, 1, 3, 4, 5, 21, 27, 31))
    assert int(_status(writer, "CapEff"), 16) == int(_status(writer, "CapBnd"), 16) == expected
    for pid in (writer, reader):
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        assert len(mounts) == 1
        assert {"nodev", "noexec", "nosuid"} <= set(mounts[0].split()[5].split(","))
        assert sorted(os.listdir(f"/proc/{pid}/root")) == ["1"]
        for kind in ("mnt", "net", "ipc", "uts"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_cancelling_ends_the_work_before_it_returns(
    unpacker: Unpacker, slow: Slow, tmp_path: Path
) -> None:
    work, writer, reader = await started(unpacker, slow)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: not psutil.pid_exists(writer) and not psutil.pid_exists(reader))
    # And the unpacker goes on to serve.
    unpacked = await unpacker.unpack(layer(tmp_path / "snapshots", number=2), 2, UnpackLimits())
    unpacked.close()
    assert (tmp_path / "snapshots/2/fs/dir/file").read_bytes() == b"content"


@pytest.mark.parametrize("victim", ["writer", "reader", "unpacker"])
async def test_a_killed_process_is_an_error_and_not_a_hang(
    unpacker: Unpacker, slow: Slow, tmp_path: Path, victim: str
) -> None:
    work, writer, reader = await started(unpacker, slow)
    assert unpacker.pid is not None
    first = unpacker.pid
    os.kill({"writer": writer, "reader": reader, "unpacker": first}[victim], signal.SIGKILL)
    async with asyncio.timeout(_SECONDS):
        with pytest.raises(StoreError, match="killed"):
            await work
    await until(lambda: not psutil.pid_exists(writer) and not psutil.pid_exists(reader))
    unpacked = await unpacker.unpack(layer(tmp_path / "snapshots", number=2), 2, UnpackLimits())
    unpacked.close()
    assert (unpacker.pid == first) == (victim != "unpacker")


async def test_the_idle_process_ends_and_comes_back(
    unpacker: Unpacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "IDLE_SECONDS", 0.05)
    (await unpacker.unpack(layer(tmp_path / "snapshots"), 1, UnpackLimits())).close()
    first = unpacker.pid
    await until(lambda: unpacker.pid is None)
    assert first is None or not psutil.pid_exists(first) or await _gone(first)
    (await unpacker.unpack(layer(tmp_path / "snapshots", number=2), 2, UnpackLimits())).close()


async def _gone(pid: int) -> bool:
    await until(lambda: not psutil.pid_exists(pid))
    return True


async def test_many_at_once_share_one_unpacker(unpacker: Unpacker, tmp_path: Path) -> None:
    layers = [layer(tmp_path / "snapshots", b"%d" % n, n) for n in range(1, 25)]
    jobs = [unpacker.unpack(each, n, UnpackLimits()) for n, each in enumerate(layers, 1)]
    for unpacked in await asyncio.gather(*jobs):
        used, inodes = await unpacker.settle(unpacked, [], UnpackLimits())
        unpacked.close()
        assert inodes == 3
        assert used > 0
        path = tmp_path / f"snapshots/{unpacked.number}/fs/dir/file"
        assert path.read_bytes() == b"%d" % unpacked.number
    assert unpacker.pid is not None
    await until(lambda: psutil.Process(unpacker.pid).children() == [])
    assert len(os.listdir(f"/proc/{unpacker.pid}/fd")) < 12


async def test_memory_is_bounded(unpacker: Unpacker, tmp_path: Path) -> None:
    base = tmp_path / "snapshots"
    with pytest.raises((UnsafeLayer, StoreError), match="memory"):
        await unpacker.unpack(layer(base), 1, UnpackLimits(max_memory=20 << 20))
    (await unpacker.unpack(layer(base, number=2), 2, UnpackLimits())).close()


async def test_a_new_daemon_waits_for_the_unpacker_of_the_old_one(
    unpacker: Unpacker, slow: Slow, tmp_path: Path
) -> None:
    work, _, _ = await started(unpacker, slow)
    base = tmp_path / "snapshots"
    directory = os.open(base, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(directory)
    metadata = Metadata(tmp_path / "images.db")
    snapshots = Snapshots(base, metadata)
    opening = asyncio.create_task(asyncio.to_thread(snapshots.open))
    done, _ = await asyncio.wait([opening], timeout=0.2)
    assert not done
    assert (base / "1").exists()
    # What the kernel does when the daemon is killed: its end of the socket closes.
    closing = asyncio.create_task(unpacker.close())
    with pytest.raises(StoreError):
        await work
    await opening
    await closing
    assert os.listdir(base) == []
    metadata.close()


async def test_what_cannot_start_says_so(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"")
    missing = Unpacker(tmp_path / "missing")
    with pytest.raises(StoreError, match="missing"):
        await missing.start()
    await missing.close()
