"""Layers on a real file system: what is kept, and what can not get out."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from pathlib import Path

import pytest

from runtime.images.errors import DigestMismatch, ImageError, MalformedImage, UnsafeLayer
from runtime.images.settings import UnpackLimits
from runtime.snapshots.trees import remove_entry, usage
from runtime.unpacker.client import Layer, Unpacker
from tests.root.runtime.images.layers import CAPABILITY, OPAQUE, Unpack, info
from tests.support.ociimage import (
    Directory,
    Entry,
    File,
    Hardlink,
    Node,
    Symlink,
    digest_of,
    tar_layer,
)

pytestmark = pytest.mark.root


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_everything_is_kept(run: Unpack, compression: str) -> None:
    root = run(
        {
            "./": Directory(mode=0o711, uid=3, gid=4, mtime=1_400_000_000),
            "bin": Directory(mode=0o2755, uid=7, gid=8, mtime=1_500_000_000),
            "bin/su": File(
                b"su", mode=0o4755, uid=1, gid=2, mtime=1_234_567_890,
                xattrs={"security.capability": CAPABILITY, "user.note": b"\xff\0x"},
            ),
            "bin/hard": Hardlink("bin/su"),
            "bin/soft": Symlink("/../../etc/passwd"),
            "dev/null": Node("c", 1, 3, mode=0o666),
            "dev/sda": Node("b", 8, 0, mode=0o660),
            "run/fifo": Node("p", mode=0o622),
            "big": File(os.urandom(300_000)),
        },
        compression=compression,
    )  # fmt: skip
    assert _attributes(root) == (0o711, 3, 4, 1_400_000_000)
    # Its time is its own, though files were made in it after its entry.
    assert _attributes(root / "bin") == (0o2755, 7, 8, 1_500_000_000)
    assert _attributes(root / "bin/su") == (0o4755, 1, 2, 1_234_567_890)
    assert (root / "bin/su").read_bytes() == b"su"
    assert os.getxattr(root / "bin/su", "security.capability") == CAPABILITY
    assert os.getxattr(root / "bin/su", "user.note") == b"\xff\0x"
    assert os.path.samefile(root / "bin/su", root / "bin/hard")
    assert os.readlink(root / "bin/soft") == "/../../etc/passwd"
    assert (root / "bin/soft").lstat().st_mtime == 1_600_000_000
    null, disk = (root / "dev/null").lstat(), (root / "dev/sda").lstat()
    assert (null.st_mode, null.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (disk.st_mode, disk.st_rdev) == (stat.S_IFBLK | 0o660, os.makedev(8, 0))
    assert (root / "run/fifo").lstat().st_mode == stat.S_IFIFO | 0o622
    assert (root / "big").stat().st_size == 300_000


def _attributes(path: Path) -> tuple[int, int, int, float]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime


def test_modes_do_not_depend_on_the_umask(run: Unpack) -> None:
    before = os.umask(0o077)
    try:
        root = run({"d": Directory(mode=0o777), "d/f": File(mode=0o666), "x/y": File(mode=0o666)})
    finally:
        os.umask(before)
    modes = {str(p.relative_to(root)): _attributes(p)[0] for p in root.rglob("*")}
    assert modes == {"d": 0o777, "d/f": 0o666, "x": 0o755, "x/y": 0o666}


def test_fractions_of_seconds_are_kept_and_absurd_times_are_not(run: Unpack) -> None:
    times = {"a": "1600000000.123456789", "b": "1e99999", "c": "nan", "d": "-5.5", "e": "x"}
    root = run([(name, info(pax_headers={"mtime": text})) for name, text in times.items()])
    assert (root / "a").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (root / "b").stat().st_mtime_ns == 0
    assert (root / "c").stat().st_mtime_ns == 0
    assert (root / "d").stat().st_mtime_ns == -5_500_000_000


def test_whiteouts_and_opaque_directories(run: Unpack) -> None:
    root = run(
        [
            ("a/.wh.gone", b""),
            (".wh.top", b""),
            ("o/new", b"new"),
            ("o/.wh..wh..opq", b""),
            ("kept", b"kept"),
            (".wh.kept", b""),
            ("dir/inside", b"x"),
            (".wh.dir", b""),
            (".wh.back", b""),
            ("back/again", b"x"),
            (".wh.again", b""),
            ("again", Directory()),
            (".wh..wh.plnk/1.2", b"aufs"),
        ]
    )
    for name in ("a/gone", "top"):
        status = (root / name).lstat()
        assert stat.S_ISCHR(status.st_mode), name
        assert status.st_rdev == 0
    assert (root / "o/new").read_bytes() == b"new"
    # A whiteout hides the lower layers only: what its own layer holds is there.
    assert (root / "kept").read_bytes() == b"kept"
    for name in ("o", "dir", "back", "again"):
        assert os.getxattr(root / name, OPAQUE) == b"y", name
    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert names == {"a", "a/gone", "top", "o", "o/new", "kept", "dir", "dir/inside", "back",
                     "back/again", "again"}  # fmt: skip


def test_later_entries_replace_earlier_ones(run: Unpack) -> None:
    root = run(
        [
            ("f", b"1"), ("f", b"22"),
            ("d/x/y", b""), ("d", b"file"),
            ("s", Symlink("/")), ("s", Directory()), ("s/z", b"z"),
            ("l", b"l"), ("l", Symlink("f")),
            ("e/x", b"x"), ("e", Directory(mode=0o700)),
        ]
    )  # fmt: skip
    assert (root / "f").read_bytes() == b"22"
    assert (root / "d").read_bytes() == b"file"
    assert not (root / "s").is_symlink()
    assert (root / "s/z").read_bytes() == b"z"
    assert os.readlink(root / "l") == "f"
    assert (root / "e/x").read_bytes() == b"x"
    assert _attributes(root / "e")[0] == 0o700


def test_forged_overlay_records_are_left_out(run: Unpack) -> None:
    xattrs = {"trusted.overlay.opaque": b"y", "trusted.overlay.redirect": b"/etc",
              "user.overlay.opaque": b"y", "security.selinux": b"x"}  # fmt: skip
    root = run({"f": File(xattrs=xattrs)})
    assert os.listxattr(root / "f") == []


def test_sparse_files_stay_sparse(run: Unpack, tmp_path: Path) -> None:
    holes = tmp_path / "holes"
    with open(holes, "wb") as file:
        for offset in (0, 1 << 20, 5 << 20):
            file.seek(offset)
            file.write(b"x" * 4096)
        file.truncate(8 << 20)
    for form in ("gnu", "posix"):
        command = f"tar --sparse --format={form} -C {tmp_path} -cf {tmp_path}/{form}.tar holes"
        assert os.system(command) == 0
        tar = (tmp_path / f"{form}.tar").read_bytes()
        assert len(tar) < 1 << 20
        root = run(tar)
        assert (root / "holes").read_bytes() == holes.read_bytes()
        assert (root / "holes").stat().st_blocks * 512 < 1 << 20


def test_limits(run: Unpack) -> None:
    small = UnpackLimits(max_bytes=100_000, max_entries=5, max_header_bytes=20_000)
    with pytest.raises(UnsafeLayer, match="100000 bytes"):
        run({"f": bytes(200_000)}, small)
    with pytest.raises(UnsafeLayer, match="100000 bytes"):
        run({"f": bytes(1 << 24)}, small, compression="gzip")
    with pytest.raises(UnsafeLayer, match="5 entries"):
        run({f"f{n}": b"" for n in range(6)}, small)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_of_gigabytes_is_not_read(run: Unpack, kind: bytes) -> None:
    header = info(kind, name="h", size=8 << 30).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises((UnsafeLayer, MalformedImage)):
        run(header + bytes(16 << 20))


def test_a_chain_of_headers_ends(run: Unpack) -> None:
    record = b"12 path=abc\n"
    header = info(b"x", name="h", size=len(record)).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises((UnsafeLayer, MalformedImage)):
        run((header + record.ljust(512, b"\0")) * 20_000)


def test_an_endless_sparse_map_ends(run: Unpack) -> None:
    header = bytearray(info(b"S", name="s", size=0).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    part = bytearray(512)
    for n in range(21):
        part[24 * n : 24 * n + 24] = b"00000000001\x0000000000001\0"
    part[504] = 1
    with pytest.raises((UnsafeLayer, MalformedImage)):
        run(bytes(header) + bytes(part) * 20_000)


def test_a_sparse_file_of_exabytes(run: Unpack) -> None:
    headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "s",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(1 << 62),
        "GNU.sparse.numblocks": "1",
    }
    with pytest.raises(UnsafeLayer):
        run([("s", info(pax_headers=headers))])


def test_damaged_archives(run: Unpack) -> None:
    good = tar_layer({"a": bytes(2000), "b": b"b"})
    damaged = bytearray(good)
    damaged[2560 + 100] ^= 0xFF  # in the second header
    for tar in (bytes(damaged), good[:700], good[:2600], b"x" * 5000, good[:512]):
        with pytest.raises(MalformedImage):
            run(tar)


def test_archives_that_are_empty_or_not_ended(run: Unpack) -> None:
    assert list(run(b"").iterdir()) == []
    assert list(run(bytes(1024)).iterdir()) == []
    good = tar_layer({"a": b"a"})
    assert (run(good[:1024]) / "a").read_bytes() == b"a"


async def test_the_diff_id_is_verified_to_the_last_byte(tmp_path: Path) -> None:
    tar = tar_layer({"a": b"a"})
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(tar + b"behind the end"))
    (tmp_path / "1/fs").mkdir(parents=True)
    layer = Layer(blob, "sha256:" + "0" * 64, "gzip", digest_of(tar))
    unpacker = Unpacker(tmp_path)
    try:
        with pytest.raises(DigestMismatch, match="image config says"):
            await unpacker.unpack(layer, 1, UnpackLimits())
    finally:
        await unpacker.close()


def test_random_damage_never_escapes_as_another_error(run: Unpack) -> None:
    import random

    files: list[tuple[str, Entry]] = [
        ("d/e/f", b"x" * 700), ("l", Symlink("/d")), ("h", Hardlink("d/e/f")),
        ("n", Node("c", 1, 3)), ("u" * 200, File(b"y", uid=1 << 25, xattrs={"user.a": b"b"})),
    ]  # fmt: skip
    good, dice = tar_layer(files), random.Random(7)
    for _ in range(150):
        tar = bytearray(good)
        for _ in range(dice.randint(1, 8)):
            tar[dice.randrange(len(tar))] = dice.randrange(256)
        try:
            run(bytes(tar))
        except ImageError:
            continue


# What needs the lower layers.


def test_implied_directories_look_as_they_do_below(run: Unpack) -> None:
    lower = run({"./": Directory(mode=0o700), "tmp": Directory(mode=0o1777, uid=5, gid=6),
                 "a/b": Directory(mode=0o750), "gone": Directory(mode=0o700)})  # fmt: skip
    middle = run([("tmp/y", b""), (".wh.gone", b"")], lower=[lower])
    root = run({"tmp/x": b"", "a/b/c/d": b"", "gone/x": b""}, lower=[middle, lower])
    assert _attributes(root)[0] == 0o700
    assert _attributes(root / "tmp")[:3] == (0o1777, 5, 6)
    assert _attributes(root / "a/b")[0] == 0o750
    assert _attributes(root / "a/b/c")[0] == 0o755
    assert _attributes(root / "gone")[0] == 0o755


def test_hard_links_to_lower_files_copy_them_up(run: Unpack) -> None:
    lower = run({"bin/x": File(b"code", mode=0o4755, uid=3, xattrs={"user.a": b"b"})})
    root = run([("y", Hardlink("bin/x")), ("z", Hardlink("bin/x"))], lower=[lower])
    assert os.path.samefile(root / "y", root / "z")
    assert os.path.samefile(root / "y", root / "bin/x")
    assert not os.path.samefile(root / "y", lower / "bin/x")
    assert (root / "y").read_bytes() == b"code"
    assert _attributes(root / "y")[:2] == (0o4755, 3)
    assert os.getxattr(root / "y", "user.a") == b"b"


def test_hard_links_to_what_lower_links_name_on_the_host(run: Unpack, canaries: Path) -> None:
    lower = run({"l": Symlink(str(canaries)), "f": Symlink(f"{canaries}/file")})
    for target in ("l/file", "f"):
        with pytest.raises(UnsafeLayer):
            run([("y", Hardlink(target))], lower=[lower])


# Trees.


def test_trees_deeper_than_any_path_are_removed(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / ".removing-0").write_text("in the way")
    descriptor = os.open(deep, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 50, dir_fd=descriptor)
        following = os.open("d" * 50, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = following
    os.symlink("/etc", "link", dir_fd=descriptor)
    os.close(descriptor)
    assert usage(deep)[1] > 50
    parent = os.open(tmp_path, os.O_RDONLY)
    try:
        remove_entry(parent, "deep")
        remove_entry(parent, "deep")
    finally:
        os.close(parent)
    assert os.listdir(tmp_path) == []
    assert Path("/etc/passwd").exists()


def test_usage_counts_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(100_000))
    os.link(tmp_path / "f", tmp_path / "g")
    os.symlink("/usr", tmp_path / "l")
    total, inodes = usage(tmp_path)
    assert 100_000 <= total < 130_000
    assert inodes == 3
