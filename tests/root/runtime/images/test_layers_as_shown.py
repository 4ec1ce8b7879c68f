"""Layers as overlayfs shows them, and files read through them."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubeletpy_common.linux.paths import open_in_root
from runtime.images.errors import (
    FileTooLarge,
)
from runtime.images.image import Image
from runtime.images.service import ImageStore
from runtime.snapshots.lookup import MergedTree
from tests.root.runtime.images.stores import assert_empty, mounted
from tests.support.ociimage import (
    Directory,
    Entry,
    File,
    Hardlink,
    Symlink,
    build_image,
)
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

# Layers as overlayfs shows them.


def merged_status(root_fd: int, path: str) -> os.stat_result | None:
    try:
        descriptor = open_in_root(root_fd, path, os.O_PATH)
    except OSError:
        return None
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


async def test_what_is_looked_up_is_what_overlayfs_shows(
    hostile: ScriptedRegistry, store: ImageStore, tmp_path: Path
) -> None:
    layers: list[list[tuple[str, Entry]]] = [
        [("./", Directory(mode=0o711)), ("etc/passwd", b"0"), ("etc/group", b"0"),
         ("gone/x", b"0"), ("opaque/old", b"0"), ("replaced/x", b"0"), ("file", b"0"),
         ("tmp", Directory(mode=0o1777)), ("lib", Symlink("usr/lib")), ("usr/lib/a", b"0")],
        [("etc/passwd", b"1"), (".wh.gone", b""), ("opaque/.wh..wh..opq", b""),
         ("opaque/new", b"1"), ("replaced", b"now a file"), ("file/x", b"now a directory"),
         ("tmp/x", b"")],
        [("gone/y", b"2"), ("etc/.wh.group", b""), ("hard", Hardlink("etc/passwd")),
         ("abs", Symlink("/etc/passwd")), ("up", Symlink("../../../etc/passwd")),
         ("loop", Symlink("loop")), ("out", Symlink("/root/.ssh")),
         ("dots", Symlink("etc/../lib"))],
    ]  # fmt: skip
    hostile.add(build_image(layers=layers), "layers", "v1")
    image = await store.pull(f"{hostile.host}/layers:v1")
    paths = ["etc/passwd", "etc/group", "gone", "gone/x", "gone/y", "opaque/old", "opaque/new",
             "replaced", "replaced/x", "file", "file/x", "tmp", "tmp/x", "lib/a", "hard", "abs",
             "up", "loop", "out", "dots/a", ".", "", "usr/../etc/passwd",
             "nothing/../etc"]  # fmt: skip
    snapshots = store.snapshots
    tree = MergedTree([snapshots.path(r.number) for r in snapshots.layers_top_first(image.chain)])
    with ExitStack() as resources:
        root = mounted(snapshots.prepare("c", image), tmp_path / "mnt", resources)
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        resources.callback(os.close, root_fd)
        for path in paths:
            found = tree.find(path, resources)
            shown = merged_status(root_fd, path or ".")
            assert (found is None) == (shown is None), path
            if found is None or shown is None:
                continue
            assert found.status.st_mode == shown.st_mode, path
            if stat.S_ISREG(shown.st_mode):
                merged = root / ("etc/passwd" if path in ("abs", "up") else path)
                assert snapshots.read_image_file(image, path, 1000) == merged.read_bytes(), path
    assert stat.S_IMODE(os.stat(snapshots.path(3)).st_mode) == 0o711


async def read(
    hostile: ScriptedRegistry, store: ImageStore, files: dict[str, Entry], path: str
) -> bytes | None:
    hostile.add(build_image(files), "read", "v1")
    image: Image = await store.pull(f"{hostile.host}/read:v1")
    return store.snapshots.read_image_file(image, path, 1000)


async def test_reading_image_files_stays_in_the_image(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    links: dict[str, Entry] = {
        "a": Symlink("/etc/hostname"), "b": Symlink("../" * 20 + "etc/hostname"),
        "c/d": Symlink("/proc/self/root/etc/hostname"), "e": Symlink("/etc"),
    }  # fmt: skip
    for path in ("a", "b", "c/d", "e/hostname", "../../etc/hostname", "e", "c"):
        assert await read(hostile, store, links, path) is None, path
    inside: dict[str, Entry] = {**links, "etc/hostname": b"image"}
    for path in ("a", "b", "e/hostname", "../../etc/hostname", "/etc//./hostname"):
        assert await read(hostile, store, inside, path) == b"image", path


async def test_reading_image_files_is_bounded(hostile: ScriptedRegistry, store: ImageStore) -> None:
    """CVE-2023-25153, CVE-2025-0750: a huge passwd costs no memory."""
    with pytest.raises(FileTooLarge, match="limit is 1000"):
        await read(hostile, store, {"etc/passwd": bytes(1001)}, "etc/passwd")
    assert await read(hostile, store, {"etc/passwd": bytes(1000)}, "etc/passwd") == bytes(1000)


async def test_an_image_without_layers(
    hostile: ScriptedRegistry, store: ImageStore, tmp_path: Path
) -> None:
    hostile.add(build_image(), "scratch", "v1")
    image = await store.pull(f"{hostile.host}/scratch:v1")
    assert image.size > 0
    with ExitStack() as resources:
        root = mounted(store.snapshots.prepare("c", image), tmp_path / "mnt", resources)
        assert os.listdir(root) == []
    store.snapshots.remove("c")
    await store.remove(image.id)
    await assert_empty(store)


async def test_a_layer_that_hides_all_below(
    hostile: ScriptedRegistry, store: ImageStore, tmp_path: Path
) -> None:
    layers: list[list[tuple[str, Entry]]] = [
        [("old", b""), ("etc/old", File())],
        [(".wh..wh..opq", b""), ("etc/new", File())],
    ]
    hostile.add(build_image(layers=layers), "opaque", "v1")
    image = await store.pull(f"{hostile.host}/opaque:v1")
    assert store.snapshots.read_image_file(image, "old", 10) is None
    with ExitStack() as resources:
        root = mounted(store.snapshots.prepare("c", image), tmp_path / "mnt", resources)
        assert sorted(str(p.relative_to(root)) for p in root.rglob("*")) == ["etc", "etc/new"]


async def test_many_layers_fit_into_the_mount_options(
    hostile: ScriptedRegistry, store: ImageStore, tmp_path: Path
) -> None:
    layers: list[dict[str, Entry]] = [{f"f{n}": str(n)} for n in range(127)]
    hostile.add(build_image(layers=layers), "many", "v1")
    image = await store.pull(f"{hostile.host}/many:v1")
    with ExitStack() as resources:
        root = mounted(store.snapshots.prepare("c", image), tmp_path / "mnt", resources)
        assert len(os.listdir(root)) == 127
