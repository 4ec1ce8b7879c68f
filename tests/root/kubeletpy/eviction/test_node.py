"""What the kernel tells: of a small file system, of a cgroup's memory, of pressure."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy.eviction.measuring import Places, observe
from kubeletpy.eviction.notices import SYSTEM_PRESSURE, Notices
from kubeletpy.eviction.signals import Signal
from kubeletpy.eviction.trees import tree_usage
from kubeletpy.resources.cgroups import PodCgroups
from kubeletpy_common.cgroups import LinuxResources, detect
from kubeletpy_common.linux import mounts
from tests.support.circumstances import patient

pytestmark = pytest.mark.root
MI = 2**20
EATER = """
import sys
held = bytearray(int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""
GROWER = """
print("ready", flush=True)
held = []
while True:
    held.append(bytearray(1 << 20))
"""


@pytest.fixture
def cgroups() -> Iterator[PodCgroups]:
    root = f"/kubeletpy-test-{secrets.token_hex(4)}"
    hierarchy = detect()
    made = PodCgroups(hierarchy, root)
    made.set_up()
    yield made
    hierarchy.cgroup(root).kill()
    hierarchy.cgroup(root).remove()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB and 64 inodes."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounts.mount("tmpfs", directory, "tmpfs", 0, "size=8m,nr_inodes=64")
    yield directory
    mounts.umount(directory, 0)


def test_a_small_file_system(cgroups: PodCgroups, small: Path) -> None:
    places = Places(str(small), str(small), "/")
    assert places.disks.image_fs is False
    before = observe(places, cgroups)
    assert before[Signal.NODE_FS].capacity == 8 * MI
    assert before[Signal.NODE_FS_INODES].capacity == 64
    (small / "big").write_bytes(b"x" * 3 * MI)
    after = observe(places, cgroups)
    assert before[Signal.NODE_FS].available - after[Signal.NODE_FS].available == 3 * MI
    assert before[Signal.IMAGE_FS_INODES].available - after[Signal.IMAGE_FS_INODES].available == 1
    assert after[Signal.CONTAINER_FS].capacity > 8 * MI
    assert Places("/", str(small), str(small)).disks.image_fs
    assert Places("/", str(small), "/").disks.split


def test_a_directory_is_measured_up_to_the_next_file_system(small: Path) -> None:
    used = tree_usage(small.parent)
    (small / "big").write_bytes(b"x" * 3 * MI)
    assert tree_usage(small.parent) == used
    assert tree_usage(small).bytes == 3 * MI


def test_memory_of_all_pods_and_processes(cgroups: PodCgroups) -> None:
    places = Places("/")
    assert Signal.ALLOCATABLE_MEMORY not in observe(places, cgroups)
    cgroups.enforce(LinuxResources(memory_limit=200 * MI))
    with eater(cgroups, 60 * MI) as process:
        seen = observe(places, cgroups)
        memory = seen[Signal.ALLOCATABLE_MEMORY]
        assert memory.capacity == 200 * MI
        assert 60 * MI < memory.capacity - memory.available < 100 * MI
        assert 0 < seen[Signal.MEMORY].available < seen[Signal.MEMORY].capacity
        assert 0 < seen[Signal.PIDS].available < seen[Signal.PIDS].capacity
        process.communicate(timeout=patient(10))


class eater(subprocess.Popen[bytes]):
    """A process below the cgroup of all pods that holds memory until its input ends."""

    def __init__(self, cgroups: PodCgroups, size: int, *, grows: bool = False) -> None:
        directory = cgroups.directory("memory")
        assert directory is not None
        # On v2 processes are in leaves only.
        leaf = directory / "pod"
        leaf.mkdir()
        super().__init__(
            ["sh", "-c", f'echo $$ > {leaf}/cgroup.procs && exec "$@"', "sh",
             sys.executable, "-c", GROWER if grows else EATER, str(size)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.stdout is not None
        assert self.stdout.readline() == b"ready\n"


def test_the_kernel_rings_when_memory_passes_a_threshold(cgroups: PodCgroups) -> None:
    directory = cgroups.directory("memory")
    assert directory is not None

    async def run() -> None:
        rung = asyncio.Event()
        notices = Notices(rung.set)
        notices.start()
        try:
            assert not notices.memory(directory.parent / "none", 30 * MI)
            if detect().version == 1:
                assert notices.memory(directory, 500 * MI)
                # Set anew: the first one is gone.
                assert notices.memory(directory, 30 * MI)
                size = 60 * MI
            else:
                # Thresholds are of v1; here who reaches memory.high stalls, and that rings.
                assert not notices.memory(directory, 30 * MI)
                cgroups.enforce(LinuxResources(memory_high=20 * MI))
                assert notices.stall(directory / "memory.pressure")
                size = 0
            with eater(cgroups, size, grows=not size) as process:
                async with asyncio.timeout(patient(10)):
                    await rung.wait()
                process.kill()
        finally:
            notices.close()

    asyncio.run(run())


def test_pressure_can_be_watched() -> None:
    async def run() -> None:
        notices = Notices(lambda: None)
        notices.start()
        try:
            # Kernels are built with and without it (CONFIG_PSI).
            assert notices.stall(SYSTEM_PRESSURE) is SYSTEM_PRESSURE.exists()
            assert not notices.stall(Path("/proc/pressure/none"))
        finally:
            notices.close()

    asyncio.run(run())
