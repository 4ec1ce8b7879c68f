"""Image volumes (KEP-4639, KEP-5365) on the real kernel."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, refused
from tests.support.ociimage import (
    BUSYBOX,
    Directory,
    Entry,
    File,
    Symlink,
    build_image,
    push,
)

pytestmark = pytest.mark.root

BASE, SIZE = 300_000, 65_536
IDS = [cri.IDMapping(host_id=BASE, container_id=0, length=SIZE)]
NAMESPACES = cri.NamespaceOption(
    pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD, uids=IDS, gids=IDS)
)

LOWER: dict[str, Entry] = {
    "data": Directory(mode=0o755),
    "data/kept": b"below\n",
    "data/gone": b"below\n",
    "data/owned": File(b"x\n", mode=0o640, uid=1000, gid=2000),
    "opaque": Directory(),
    "opaque/below": b"x",
    "inside": Symlink("/data"),
    "outside": Symlink("../../../../../../etc"),
    "bin/echo": File(BUSYBOX.read_bytes(), mode=0o755),
}
UPPER: dict[str, Entry] = {
    "data/.wh.gone": b"",
    "data/more": b"above\n",
    "opaque": Directory(),
    "opaque/.wh..wh..opq": b"",
    "opaque/above": b"x",
}


def push_layers(node: Node, *layers: dict[str, Entry]) -> str:
    """Push and pull an image that nothing else has; returns its id."""
    unique: dict[str, Entry] = {"unique": secrets.token_hex(8)}
    image = build_image(layers=[{**unique, **layer} for layer in layers])
    name = f"tests/volume-{secrets.token_hex(4)}"
    with in_namespace(node.place.netns):
        push(image, node.registry, name, "v1")
    return node.pull(f"{node.registry}/{name}:v1")


@pytest.fixture(scope="module")
def volume(node: Node) -> str:
    return push_layers(node, LOWER, UPPER)


def mount(image: str, path: str = "/vol", **more: Any) -> cri.Mount:
    fields: dict[str, Any] = {"readonly": True, **more}
    return cri.Mount(container_path=path, image=cri.ImageSpec(image=image), **fields)


def test_layers_are_merged_read_only_and_reported(node: Node, volume: str) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, mounts=[mount(volume)])
        assert node.shell(container, "cd /vol; ls data opaque").split() == [
            "data:", "kept", "more", "owned", "opaque:", "above",
        ]  # fmt: skip
        assert node.shell(container, "stat -c '%a %u %g' /vol/data/owned") == "640 1000 2000"
        for command in ("echo x > /vol/new", "rm /vol/data/kept", "chmod 777 /vol"):
            result = node.exec(container, "sh", "-c", command)
            assert b"Read-only file system" in result.stderr, command
        # Unlike KEP-4639's first version: what is in an image may be executed.
        assert node.shell(container, "/vol/bin/echo works") == "works"
        (seen,) = node.status(container).mounts
        assert seen.image.image_ref == volume
        assert (seen.container_path, seen.readonly, seen.host_path) == ("/vol", True, "")
        # Nothing of it is a mount of the host.
        assert container not in Path("/proc/self/mountinfo").read_text()


def test_an_image_of_one_layer_and_one_of_none(node: Node) -> None:
    single = push_layers(node, {"file": b"x", ".wh.never": b""})
    empty = push_layers(node)
    with node.pod() as sandbox:
        mounts = [mount(single, "/one"), mount(empty, "/none"), mount(single, "/two")]
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        seen = node.shell(container, "ls -A /one /none /two").split()
        assert seen == ["/none:", "/one:", "file", "unique", "/two:", "file", "unique"]
        assert b"Read-only" in node.exec(container, "touch", "/none/x").stderr


def test_sub_paths_stay_inside_the_image(node: Node, volume: str) -> None:
    with node.pod() as sandbox:
        mounts = [
            mount(volume, "/data", image_sub_path="data"),
            mount(volume, "/deep", image_sub_path="./data/"),
            mount(volume, "/link", image_sub_path="inside"),
            mount(volume, "/etc/one", image_sub_path="data/kept"),
        ]
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        for path in ("/data", "/deep", "/link"):
            assert node.shell(container, f"ls {path}").split() == ["kept", "more", "owned"]
        assert node.shell(container, "cat /etc/one") == "below"
        # The link goes up and up, and stays in the image, which has no /etc.
        for path in ("outside", "missing", "data/gone", "opaque/below", "data/kept/x"):
            config = node.container_config(
                *SLEEP, name=path.replace("/", "-"), mounts=[mount(volume, image_sub_path=path)]
            )
            error = refused(lambda c=config: node.create(sandbox, c))  # type: ignore[misc]
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert (error.details() or "").startswith("ImageVolumeMountFailed: "), error
            assert "does not exist" in (error.details() or "")


def test_requests_that_contradict_themselves(node: Node, volume: str) -> None:
    missing = "sha256:" + "0" * 64
    cases = [
        (mount(volume, readonly=False), "read-only", grpc.StatusCode.INVALID_ARGUMENT),
        (mount(volume, host_path="/etc"), "host_path", grpc.StatusCode.INVALID_ARGUMENT),
        (mount(""), "empty", grpc.StatusCode.INVALID_ARGUMENT),
        (mount(missing), "pull it first", grpc.StatusCode.NOT_FOUND),
        (mount(volume, image_sub_path="/data"), "plain path", grpc.StatusCode.INVALID_ARGUMENT),
        (mount(volume, image_sub_path="a/../b"), "plain path", grpc.StatusCode.INVALID_ARGUMENT),
        (
            mount(volume, propagation=cri.PROPAGATION_BIDIRECTIONAL),
            "propagate",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ]
    with node.pod() as sandbox:
        for asked, words, code in cases:
            config = node.container_config(*SLEEP, mounts=[asked])
            error = refused(lambda c=config: node.create(sandbox, c))  # type: ignore[misc]
            assert error.code() == code, error
            assert (error.details() or "").startswith("ImageVolumeMountFailed: ")
            assert words in (error.details() or ""), error


def test_options_restrict_the_mount(node: Node, volume: str) -> None:
    with node.pod() as sandbox:
        mounts = [
            mount(volume, "/plain"),
            mount(volume, "/strict", mount_options=["noexec", "nosuid", "nodev"]),
        ]
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        assert node.shell(container, "/plain/bin/echo runs") == "runs"
        assert b"Permission denied" in node.exec(container, "sh", "-c", "/strict/bin/echo x").stderr
        options = node.shell(container, "grep ' /strict ' /proc/mounts").split()[3].split(",")
        assert {"ro", "noexec", "nosuid", "nodev"} <= set(options)


def test_a_removed_image_stays_under_its_containers(node: Node) -> None:
    image = push_layers(node, {"file": b"kept\n"})
    remove = cri.RemoveImageRequest(image=cri.ImageSpec(image=image))
    layers = node.place.root / "snapshots"
    with node.pod() as sandbox:
        config = node.container_config(*SLEEP, mounts=[mount(image)])
        container = node.create(sandbox, config)
        before = {entry.name for entry in layers.iterdir()}
        node.images.RemoveImage(remove, timeout=CALL_SECONDS)
        # Not even a restart of the daemon, which cleans up, takes the layers away.
        node.restart()
        assert {entry.name for entry in layers.iterdir()} == before
        node.start(container)
        assert node.shell(container, "cat /vol/file") == "kept"
        assert node.status(container).mounts[0].image.image_ref == image
        # A second one cannot be made, but is told why.
        again = node.container_config(*SLEEP, name="again", mounts=[mount(image)])
        assert refused(lambda: node.create(sandbox, again)).code() == grpc.StatusCode.NOT_FOUND
        node.stop(container)
        node.remove(container)
        # The next collection frees what was kept: that of any removal.
        node.images.RemoveImage(
            cri.RemoveImageRequest(image=cri.ImageSpec(image=push_layers(node, {"x": b""}))),
            timeout=CALL_SECONDS,
        )
    left = {entry.name for entry in layers.iterdir()}
    assert len(before - left) >= 3  # the layer, the volume, the writable layer


def test_in_a_user_namespace(node: Node, volume: str) -> None:
    security = {"namespace_options": NAMESPACES}
    with node.pod(namespaces=NAMESPACES) as sandbox:
        mounts = [
            mount(volume, "/whole"),
            mount(volume, "/part", image_sub_path="data", uidMappings=IDS, gidMappings=IDS),
        ]
        container = node.run(sandbox, *SLEEP, mounts=mounts, security=security)
        paths = "/whole /whole/data/owned /part/owned"
        assert node.shell(container, f"stat -c '%u %g' {paths}").split("\n") == [
            "0 0", "1000 2000", "1000 2000",
        ]  # fmt: skip
        for command in ("touch /part/x", "umount /part", "mount -o remount,bind,rw /part"):
            assert node.exec(container, "sh", "-c", command).exit_code != 0, command
        assert "inside" in node.shell(container, "ls /whole")


def test_the_reference_is_that_of_the_image(node: Node) -> None:
    with node.pod() as sandbox:
        by_name = f"{node.registry}/tests/busybox:v1"
        config = node.container_config(*SLEEP, mounts=[mount(by_name)])
        (seen,) = node.status(node.create(sandbox, config)).mounts
        assert (seen.image.image, seen.image.image_ref) == (by_name, node.image)
