"""Images made to harm: huge password files, users, volumes, directories, environment."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, refused
from tests.support.ociimage import Directory, Entry, File, Symlink, dumps, push_blob, push_manifest

pytestmark = pytest.mark.root

MIB = 1 << 20
HUGE = 1 << 30


def memory(node: Node) -> int:
    return int(psutil.Process(node.daemon.pid).memory_full_info().uss)


def peak(node: Node) -> int:
    """Return the most bytes that the daemon ever had in memory."""
    for line in Path(f"/proc/{node.daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def huge_layer(name: str) -> tuple[bytes, str]:
    """Return a compressed layer with a file of a gibibyte, and its digest uncompressed."""
    info = tarfile.TarInfo(name)
    info.size = HUGE
    digest, packer = hashlib.sha256(), zstandard.ZstdCompressor(level=1).compressobj()
    packed = bytearray()

    def pieces() -> Iterator[bytes]:
        yield info.tobuf()
        chunk = b"x:x:0:0::/:\n" * 87382
        chunk = chunk[:MIB]
        for _ in range(HUGE // MIB):
            yield chunk
        yield bytes(1024)

    for piece in pieces():
        digest.update(piece)
        packed += packer.compress(piece)
    packed += packer.flush()
    return bytes(packed), f"sha256:{digest.hexdigest()}"


def test_password_files_of_a_gibibyte(node: Node) -> None:
    """CVE-2023-25153, CVE-2025-0750, CVE-2025-4437: the memory of the daemon is bounded."""
    layer, diff_id = huge_layer("etc/group")
    config = {"architecture": "amd64", "os": "linux", "config": {"User": "web"},
              "rootfs": {"type": "layers", "diff_ids": [diff_id]}}  # fmt: skip
    blob = dumps(config)
    manifest = dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", blob),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+zstd", layer)],
    })  # fmt: skip
    with in_namespace(node.place.netns):
        for data in (blob, layer):
            push_blob(node.registry, "tests/huge", data)
        push_manifest(node.registry, "tests/huge", manifest,
                      "application/vnd.oci.image.manifest.v1+json", "v1")  # fmt: skip
    before = peak(node)
    image = cri.ImageSpec(image=node.pull(f"{node.registry}/tests/huge:v1"))
    with node.pod() as sandbox:
        error = refused(lambda: node.create(sandbox, node.container_config("x", image=image)))
        assert "/etc/group" in (error.details() or "")
    assert peak(node) < before + 64 * MIB
    node.images.RemoveImage(cri.RemoveImageRequest(image=image), timeout=60)


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(data),
            "digest": f"sha256:{hashlib.sha256(data).hexdigest()}"}  # fmt: skip


@pytest.mark.parametrize(
    ("passwd", "group"),
    [
        (b"a:" * 500_000, b""),
        (b"\n" * 1_000_000, b":\n" * 500_000),
        (b"web:x:1000:1000::/home:" + b"x" * 1_000_000, b""),
        (b"", b"g:x:1:" + b"web," * 250_000),
        (b"", b"".join(b"g%d:x:%d:web\n" % (n, n) for n in range(60_000))),
        (b"web:x:%s:1::/:\n" % (b"9" * 900_000), b""),
        (b"\xff\x00\n" * 300_000, b"\x00" * 1_000_000),
        (b"web:x:4294967296:0::/:\nweb:x:-1:0::/:\nweb:x:0x0:0::/:\n", b""),
    ],
)
def test_parsing_bombs_within_the_bounds(node: Node, passwd: bytes, group: bytes) -> None:
    """What is read at most, a mebibyte, costs little time and memory whatever it says."""
    good = b"web:x:1000:1000::/home:/bin/sh\n"
    known = passwd if b"web:x:" in passwd else good + passwd
    files: dict[str, Entry] = {"etc/passwd": known[: MIB - 1], "etc/group": group[: MIB - 1]}
    image = cri.ImageSpec(image=node.pull(node.push("tests/parse", files)))
    with node.pod() as sandbox:
        before = memory(node)
        begun = psutil.Process(node.daemon.pid).cpu_times()
        config = node.container_config(
            "grep", "Uid", "/proc/self/status", image=image, security={"run_as_username": "web"}
        )
        if b"4294967296" in passwd or b"9" * 20 in passwd:
            # Lines that are no users are skipped, as by the C library: nobody is of that name.
            error = refused(lambda: node.create(sandbox, config))
            assert "'web' is not in" in (error.details() or "")
        else:
            container = node.create(sandbox, config)
            node.start(container)
            assert node.output(node.wait_exited(container)).split()[1] == "1000"
        ended = psutil.Process(node.daemon.pid).cpu_times()
        assert ended.user - begun.user < 3
        assert memory(node) < before + 64 * MIB


@pytest.mark.parametrize("user", ["web", "1000", "daemon", "web:extra", "1000:2000", "4000"])
def test_groups_are_those_that_id_tells(node: Node, user: str) -> None:
    """CVE-2023-25173, CVE-2022-2995: neither more nor less than the image's own /etc/group."""
    image = cri.ImageSpec(image=node.pull(node.push("tests/groups", User=user)))
    name = user.split(":")[0]
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, image=image)
        status = node.shell(container, "grep -E '^(Uid|Gid|Groups):' /proc/self/status")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        groups = set(fields["Groups"].split())
        first = node.output(node.run_to_end(sandbox, "id", "-G", name="run", image=image))
        assert set(first.split()) == groups | {fields["Gid"].split()[0]}
        if name not in ("4000",) and ":" not in user:
            # Looked up by the image's own program, in the image's own files.
            known = {"1000": "web"}.get(name, name)
            expected = set(node.shell(container, f"id -G {known}").split())
            assert groups == expected
        # The gid is among the supplementary ones: nobody can drop out of its own group.
        assert fields["Gid"].split()[0] in groups


def test_a_home_with_a_line_feed_adds_no_user(node: Node, tmp_path: Path) -> None:
    """CVE-2022-4318: the environment is no text of /etc/passwd."""
    del tmp_path
    evil = "/x\nevil:x:0:0::/:/bin/sh"
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, env={"HOME": evil},
                             security={"run_as_user": cri.Int64Value(value=4321)})  # fmt: skip
        assert node.shell(container, 'echo "$HOME"') == evil
        assert "evil" not in node.shell(container, "cat /etc/passwd /etc/group")
        bundle = node.place.state / "containers" / container / "config.json"
        process = json.loads(bundle.read_text())["process"]
        assert process["user"]["uid"] == 4321
        assert process["env"].count(f"HOME={evil}") == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"Volumes": {"/": {}}}, "VOLUME"),
        ({"Volumes": {"..": {}}}, "VOLUME"),
        ({"Volumes": {"/a/../..": {}}}, "VOLUME"),
        ({"WorkingDir": "relative"}, "working directory"),
        ({"User": "nobody-here"}, "nobody-here"),
        ({"User": "9" * 5000}, "out of range"),
        ({"User": "-1"}, "out of range"),
        ({"StopSignal": "SIGEVIL"}, "SIGEVIL"),
        ({"StopSignal": "4096"}, "4096"),
    ],
)
def test_configurations_that_cannot_be(node: Node, config: dict[str, Any], words: str) -> None:
    name = f"tests/config{abs(hash(str(config)))}"
    image = cri.ImageSpec(image=node.pull(node.push(name, None, **config)))
    with node.pod() as sandbox:
        error = refused(lambda: node.create(sandbox, node.container_config("x", image=image)))
        assert words in (error.details() or "")


def test_configurations_that_lead_out_stay_inside(node: Node, tmp_path: Path) -> None:
    """CVE-2022-23648 and its like: VOLUME, WORKDIR and links of the image, all at once."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "host").write_text("host")
    files: dict[str, Entry] = {
        "link": Symlink(str(canary)), "up": Symlink("../" * 20 + str(canary).lstrip("/")),
        "magic": Symlink("/proc/self/root"), "proc1": Symlink("/proc/1/root" + str(canary)),
        "data": Directory(), "data/out": Symlink(str(canary)), "data/file": File(b"x"),
        str(canary).lstrip("/"): Directory(),
    }  # fmt: skip
    volumes: dict[str, Any] = {
        path: {} for path in ("/link", "/up/deep", "/data", f"../../../..{canary}", "/a" * 100)
    }
    image = cri.ImageSpec(image=node.pull(node.push("tests/leading", files, Volumes=volumes,
                                                    WorkingDir="/up/work",
                                                    Env=["PATH=/bin:/link"])))  # fmt: skip
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, image=image)
        shown = node.shell(container, f"cat /link/* /up/* /data/out/* {canary}/* 2>&1; pwd")
        assert "host\n" not in shown
        # One volume lies on the other where the image's own links lead both to one place.
        node.shell(container, "touch /link/made /data/made made; touch /up/deep/made; true")
        for directory in (node.place.root / "volumes" / container).iterdir():
            assert directory.name.isdigit()
    assert os.listdir(canary) == ["host"]
    assert (canary / "host").read_text() == "host"
