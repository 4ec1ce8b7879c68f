"""Layers that were made to escape: refused or confined, with canaries on the host."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from runtime.images.errors import UnsafeLayer
from tests.root.runtime.images.layers import OPAQUE, Unpack, info
from tests.support.ociimage import (
    Directory,
    Entry,
    File,
    Hardlink,
    Node,
    Symlink,
)

pytestmark = pytest.mark.root


ROOT_LINK = ("link", Symlink("/"))


def up(levels: int = 12) -> str:
    return "../" * levels


def evil(host: str) -> dict[str, list[tuple[str, Entry]]]:
    return {
        "dots": [(f"{up()}{host}/evil", b"evil")],
        "dots inside": [(f"a/b/{up()}{host}/evil", b"evil")],
        "dots as the last": [("a/..", Directory(mode=0o777))],
        "dots behind a slash": [(f"/{up()}{host}/file", b"evil")],
        "whiteout of dots": [("a/.wh...", b"")],
        "whiteout of a dot": [("a/.wh..", b"")],
        "whiteout of nothing": [(".wh.", b"")],
        "whiteout through dots": [(f"{up()}{host}/.wh.file", b"")],
        "opaque through dots": [(f"{up()}{host}/.wh..wh..opq", b"")],
        "hard link through dots": [("h", Hardlink(f"{up()}{host}/file")), ("h", b"evil")],
        "hard link to what is outside": [("h", Hardlink(f"{host}/file"))],
        "hard link to the root": [("h", Hardlink("/"))],
        "hard link to a directory": [("d", Directory()), ("h", Hardlink("d"))],
        "hard link to nothing": [("h", Hardlink("nothing"))],
        "hard link through a link to the host": [
            ROOT_LINK, ("h", Hardlink(f"link/{host}/file")),
        ],
        "file as a directory": [("f", b""), ("f/x", b"")],
        "device as a directory": [("n", Node("c", 1, 3)), ("n/x", b"")],
        "endless links": [("a", Symlink("b")), ("b", Symlink("a")), ("a/x", b"")],
        "link to itself": [("a", Symlink("a")), ("a/x", b"")],
        "growing links": [("a", Symlink("a/a/a")), ("a/x", b"")],
        "long component": [("a" * 300, b"")],
        "long path": [("a/" * 3000, b"")],
        "root as a file": [("/", info())],
        "root as a link": [("./", info(tarfile.SYMTYPE, linkname="/"))],
        "empty link": [("l", Symlink(""))],
        "huge link": [("l", Symlink("a" * 5000))],
        "user of -1": [("f", File(uid=0xFFFFFFFF))],
        "group of 2^40": [("f", File(gid=1 << 40))],
        "negative user": [("f", info(pax_headers={"uid": "-1"}))],
        "huge device": [("n", info(tarfile.CHRTYPE, devmajor=1 << 12))],
        "inside a whiteout": [(".wh.a/b", b"")],
        "NUL in a name": [("a", info(pax_headers={"path": "a\0b"}))],
        "dots in a PAX name": [("a", info(pax_headers={"path": f"{up()}{host}/evil"}))],
        "dots in a PAX link": [("h", info(tarfile.LNKTYPE, linkname="x",
                                          pax_headers={"linkpath": f"{up()}{host}/file"}))],
    }  # fmt: skip


@pytest.mark.parametrize("case", list(evil("x")))
def test_evil_layers_are_refused(run: Unpack, canaries: Path, case: str) -> None:
    with pytest.raises(UnsafeLayer, match=r"layer sha256:[0-9a-f]{64}: "):
        run(evil(str(canaries).lstrip("/"))[case])


def confined(host: str) -> dict[str, list[tuple[str, Entry]]]:
    """Layers that write through links to the host; each writes "evil" to <root>/<host>/new."""
    climb = f"{up()}{host}"
    return {
        "absolute name": [(f"/{host}/new", b"evil")],
        "absolute link": [("l", Symlink(f"/{host}")), ("l/new", b"evil")],
        "relative link": [("a/l", Symlink(climb)), ("a/l/new", b"evil")],
        "chain of links": [
            ("a", Symlink("/b")), ("b", Symlink(f"{up()}c")), ("c", Symlink(f"/{host}")),
            ("a/new", b"evil"),
        ],
        "link to the root": [ROOT_LINK, (f"link/{host}/new", b"evil")],
        "link that is made twice": [
            ("l", Directory()), ("l/x", b""), ("l", Symlink(f"/{host}")), ("l/new", b"evil"),
        ],
        "link in a link's target": [
            ("x/y", Symlink("/")), ("l", Symlink(f"x/y/{host}")), ("l/new", b"evil"),
        ],
        "links with dots behind": [
            ("d", Symlink(f"/{host}/sub/..")), ("d/new", b"evil"),
        ],
        "magic link": [
            ("l", Symlink("/proc/self/root")), (f"l/../../../{host}/new".replace("../", ""), b""),
            (f"{host}/new", b"evil"),
        ],
    }  # fmt: skip


@pytest.mark.parametrize("case", list(confined("x")))
def test_links_to_the_host_stay_inside(run: Unpack, canaries: Path, case: str) -> None:
    host = str(canaries).lstrip("/")
    root = run(confined(host)[case])
    assert (root / host / "new").read_bytes() == b"evil"


def test_writing_over_a_link_replaces_it(run: Unpack, canaries: Path) -> None:
    root = run([("f", Symlink(f"{canaries}/file")), ("f", b"evil"),
                ("d", Symlink(str(canaries))), ("d", Directory(mode=0o777, uid=9)),
                ("p", Symlink(f"{canaries}/file")), ("p", Node("p")),
                ("h", Symlink(f"{canaries}/file")), ("x", b""), ("h", Hardlink("x"))])  # fmt: skip
    for name in "fdph":
        assert not (root / name).is_symlink()


def test_a_hard_link_to_a_link_links_the_link(run: Unpack, canaries: Path) -> None:
    root = run([("l", Symlink(f"{canaries}/file")), ("h", Hardlink("l"))])
    assert (root / "h").is_symlink()
    assert (root / "h").lstat().st_nlink == 2


def test_a_whiteout_through_a_link_stays_inside(run: Unpack, canaries: Path) -> None:
    root = run([("l", Symlink(str(canaries))), ("l/.wh.file", b""), ("l/.wh..wh..opq", b"")])
    inside = root / str(canaries).lstrip("/")
    assert stat.S_ISCHR((inside / "file").lstat().st_mode)
    assert os.getxattr(inside, OPAQUE) == b"y"


# Bombs and damage.
