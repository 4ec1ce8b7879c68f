"""Calls that need no privilege, on the real kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kubeletpy_common.linux import mounts, namespaces, paths, processes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    (made / "etc/passwd").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (made / "absolute").symlink_to("/etc")
    (made / "up").symlink_to("../../..")
    (made / "out").symlink_to(tmp_path / "secret")
    (made / "magic").symlink_to("/proc/self/root")
    return made


def read(root: Path, path: str, opener: str) -> str:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with open(getattr(paths, opener)(descriptor, path, os.O_RDONLY)) as stream:
            return stream.read()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", ["etc/passwd", "/etc/passwd", "absolute/passwd", "up/etc/passwd"])
def test_in_root_links_mean_what_they_mean_inside(root: Path, path: str) -> None:
    assert read(root, path, "open_in_root") == "inside"


@pytest.mark.parametrize("path", ["out", "magic/etc/passwd", "../secret"])
def test_in_root_nothing_outside_is_reached(root: Path, path: str) -> None:
    with pytest.raises(OSError, match="openat2"):
        read(root, path, "open_in_root")


@pytest.mark.parametrize("path", ["absolute/passwd", "up/etc/passwd", "out", "../secret", "/etc"])
def test_beneath_leaving_is_an_error(root: Path, path: str) -> None:
    with pytest.raises(OSError, match="openat2") as error:
        read(root, path, "open_beneath")
    assert error.value.errno == errno.EXDEV


def test_directories_are_made_inside(root: Path) -> None:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    for path in ("a/b/c", "/absolute/d", "up/e", "a/./b/../f"):
        os.close(paths.make_directories_in_root(descriptor, path))
    os.close(descriptor)
    for path in ("a/b/c", "etc/d", "e", "a/f"):
        assert (root / path).is_dir()


def test_a_dangling_link_is_not_made_real(root: Path) -> None:
    (root / "dangling").symlink_to("/nowhere")
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(FileNotFoundError):
        paths.make_directories_in_root(descriptor, "dangling/x")
    os.close(descriptor)
    assert not (root / "nowhere").exists()


def test_errors_name_the_call_and_its_operands() -> None:
    with pytest.raises(
        OSError, match=r"umount2\(/no/such/place, flags 0x2\): No such file"
    ) as error:
        mounts.umount("/no/such/place", mounts.MNT_DETACH)
    assert error.value.errno in (errno.ENOENT, errno.EPERM)
    with pytest.raises(OSError, match=r"setns\(-1, 0x0\): Bad file descriptor"):
        namespaces.setns(-1)
    with pytest.raises(OSError, match=r"fsopen\(nosuchfs\)"):
        mounts.fsopen("nosuchfs")


def test_a_nul_byte_does_not_cut_a_path() -> None:
    with pytest.raises(ValueError, match="NUL"):
        mounts.umount("/tmp\0/etc")


def test_capability_names() -> None:
    assert processes.capability_numbers(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]) == {0, 40}
    with pytest.raises(ValueError, match="CAP_NONE"):
        processes.capability_numbers(["CAP_NONE"])


def test_descriptors_are_closed_but_for_those_kept() -> None:
    reading, writing = os.pipe()
    kept, closed = os.dup(writing), os.dup(writing)
    pid = os.fork()
    if pid == 0:
        processes.close_from(3, keep=(kept,))
        os.write(kept, b"".join(b"1" if is_open(fd) else b"0" for fd in (kept, closed, writing)))
        os._exit(0)
    for descriptor in (writing, kept, closed):
        os.close(descriptor)
    os.waitpid(pid, 0)
    with open(reading) as stream:
        assert stream.read() == "100"


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
