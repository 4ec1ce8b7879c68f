"""Mounts of the host in containers: how they spread, and what can be done through them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from kubeletpy_common.linux import mounts as m
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, refused

pytestmark = pytest.mark.root

PRIVATE = cri.PROPAGATION_PRIVATE
FROM_HOST = cri.PROPAGATION_HOST_TO_CONTAINER
BOTH_WAYS = cri.PROPAGATION_BIDIRECTIONAL


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A directory that is a shared mount of its own, with the directory ``inner`` in it."""
    volume = tmp_path / "volume"
    (volume / "inner").mkdir(parents=True)
    with ExitStack() as stack:
        m.mount(volume, volume, None, m.MS_BIND)
        stack.callback(m.umount, volume, m.MNT_DETACH)
        # Not a peer of the mount that it lies on, or the test's mounts would show there as well.
        m.mount(None, volume, None, m.MS_PRIVATE)
        m.mount(None, volume, None, m.MS_SHARED)
        yield volume


def mount_tmpfs(target: Path, stack: ExitStack, name: str = "mark") -> None:
    """Mount a tmpfs with one file until the stack ends."""
    m.mount("tmpfs", target, "tmpfs", 0, "size=64k")
    stack.callback(m.umount, target, m.MNT_DETACH)
    (target / name).write_text("x")


def test_a_private_mount_stays_as_it_was(node: Node, volume: Path) -> None:
    mounts = [cri.Mount(container_path="/v", host_path=str(volume), propagation=PRIVATE)]
    with node.pod(privileged=True) as sandbox, ExitStack() as stack:
        security = {"privileged": True}
        container = node.run(sandbox, *SLEEP, mounts=mounts, security=security)
        mount_tmpfs(volume / "inner", stack)
        assert node.shell(container, "ls /v/inner") == ""
        node.shell(container, "mkdir /v/own && mount -t tmpfs none /v/own && touch /v/own/x")
        assert list((volume / "own").iterdir()) == []


def test_mounts_of_the_host_arrive_and_those_inside_do_not_leave(node: Node, volume: Path) -> None:
    mounts = [cri.Mount(container_path="/v", host_path=str(volume), propagation=FROM_HOST)]
    with node.pod(privileged=True) as sandbox, ExitStack() as stack:
        security = {"privileged": True}
        container = node.run(sandbox, *SLEEP, mounts=mounts, security=security)
        mount_tmpfs(volume / "inner", stack)
        assert node.shell(container, "ls /v/inner") == "mark"
        node.shell(container, "mkdir /v/own && mount -t tmpfs none /v/own && touch /v/own/x")
        assert list((volume / "own").iterdir()) == []
        stack.pop_all().close()
        assert node.shell(container, "ls /v/inner") == ""


def test_mounts_go_both_ways(node: Node, volume: Path) -> None:
    mounts = [cri.Mount(container_path="/v", host_path=str(volume), propagation=BOTH_WAYS)]
    with node.pod(privileged=True) as sandbox, ExitStack() as stack:
        security = {"privileged": True}
        container = node.run(sandbox, *SLEEP, mounts=mounts, security=security)
        mount_tmpfs(volume / "inner", stack)
        assert node.shell(container, "ls /v/inner") == "mark"
        node.shell(container, "mkdir /v/own && mount -t tmpfs none /v/own && touch /v/own/x")
        stack.callback(m.umount, volume / "own", m.MNT_DETACH)
        assert [entry.name for entry in (volume / "own").iterdir()] == ["x"]
        # It outlives the container that made it, as CSI drivers need it.
        node.stop(container)
        node.remove(container)
        assert (volume / "own" / "x").exists()


@pytest.mark.parametrize("propagation", [FROM_HOST, BOTH_WAYS])
def test_propagation_needs_a_mount_that_spreads(
    node: Node, volume: Path, propagation: cri.MountPropagation.ValueType
) -> None:
    m.mount(None, volume, None, m.MS_PRIVATE)
    mounts = [cri.Mount(container_path="/v", host_path=str(volume), propagation=propagation)]
    with node.pod() as sandbox:
        error = refused(lambda: node.create(sandbox, node.container_config(*SLEEP, mounts=mounts)))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "mount --make-shared" in (error.details() or "")


def test_read_only_below_or_not(node: Node, volume: Path) -> None:
    handlers = node.runtime.Status(cri.StatusRequest(), timeout=CALL_SECONDS).runtime_handlers
    assert all(handler.features.recursive_read_only_mounts for handler in handlers)
    with node.pod() as sandbox, ExitStack() as stack:
        mount_tmpfs(volume / "inner", stack)
        mounts = [
            cri.Mount(container_path="/plain", host_path=str(volume), readonly=True),
            cri.Mount(
                container_path="/all",
                host_path=str(volume),
                readonly=True,
                recursive_read_only=True,
            ),
        ]
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        for path in ("/plain/x", "/all/x", "/all/inner/x"):
            assert b"Read-only" in node.exec(container, "touch", path).stderr, path
        # As CRI says: what is mounted below keeps its own mode without the flag.
        node.shell(container, "touch /plain/inner/x")
        assert (volume / "inner" / "x").exists()


def test_options_and_a_relabel_flag(node: Node, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    mounts = [
        cri.Mount(container_path="/any", host_path=str(tmp_path), selinux_relabel=True),
        cri.Mount(container_path="/no", host_path=str(tmp_path), mount_options=["noexec"]),
    ]
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        assert node.shell(container, "/any/script") == "ran"
        assert b"Permission denied" in node.exec(container, "sh", "-c", "/no/script").stderr
    features = node.runtime.Status(cri.StatusRequest(), timeout=CALL_SECONDS).features
    assert features.mount_options


def test_mounts_below_mounts_whatever_their_order(node: Node, tmp_path: Path) -> None:
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    mounts = [
        cri.Mount(container_path="/v/deep/down", host_path=str(tmp_path / "inner")),
        cri.Mount(container_path="/v", host_path=str(tmp_path / "outer")),
    ]
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, mounts=mounts)
        assert node.shell(container, "cat /v/outer /v/deep/down/inner") == "outerinner"


def test_swap_and_huge_pages(node: Node) -> None:
    limits = {"memory_limit_in_bytes": 32 << 20, "memory_swap_limit_in_bytes": 48 << 20}
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, resources=limits)
        path = node.place.container_cgroup(sandbox, container)
        v1 = node.cgroup_file(path, "memory", "memory.memsw.limit_in_bytes")
        v2 = node.cgroup_file(path, "memory", "memory.swap.max")
        if v1.parent.joinpath("memory.limit_in_bytes").exists():
            if v1.exists():
                assert int(v1.read_text()) == 48 << 20
        else:
            assert int(v2.read_text()) == 16 << 20
        assert node.status(container).resources.linux.memory_swap_limit_in_bytes == 48 << 20
        pages = [cri.HugepageLimit(page_size="2MB", limit=0)]
        config = node.container_config(*SLEEP, name="huge", resources={"hugepage_limits": pages})
        controllers = Path("/proc/cgroups").read_text()
        huge = node.create(sandbox, config)
        assert node.status(huge).resources.linux.hugepage_limits[0].page_size == "2MB"
        if "hugetlb" in controllers:
            node.start(huge)
        else:
            assert "hugetlb" in (refused(lambda: node.start(huge)).details() or "")
