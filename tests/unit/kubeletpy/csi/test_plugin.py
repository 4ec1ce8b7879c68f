from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeletpy.api.codec import decode
from kubeletpy.api.pod import Pod
from kubeletpy.cri.node import NodeFacts
from kubeletpy.csi import NAME, data, drivers
from kubeletpy.csi.drivers import Drivers
from kubeletpy.csi.plugin import AGAIN, CsiPlugin
from kubeletpy.csi.requests import TOKENS, CsiVolume
from kubeletpy.plugins.channels import PluginError
from kubeletpy.volumes.context import Context
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.objects import NoObjects
from kubeletpy.volumes.paths import PodPaths
from kubeletpy.volumes.plugin import MountRecord, VolumeRequest, VolumeSource
from kubeletpy.volumes.tokens import Token
from tests.support.csi_driver import CsiDriver

DRIVER = "d.io"


class Objects:
    """What the API server would say."""

    def __init__(self) -> None:
        self.drivers: dict[str, dict[str, Any]] = {}
        self.in_use: set[str] = set()
        self.resized: list[str] = []
        self.attach_fault = ""

    async def driver(self, name: str) -> dict[str, Any] | None:
        return self.drivers.get(name)

    async def attachment(self, volume: CsiVolume) -> dict[str, str]:
        self.add_in_use(volume.unique_name)
        if self.attach_fault:
            raise VolumeError("", self.attach_fault)
        return {"device": "sdx"}

    def add_in_use(self, name: str) -> None:
        self.in_use.add(name)

    def drop_in_use(self, name: str) -> None:
        self.in_use.discard(name)

    async def secret(self, reference: tuple[str, str] | None, what: str) -> dict[str, str]:
        return {} if reference is None else {"key": "/".join(reference)}

    async def claim_resized(self, claim: dict[str, Any], size: str) -> None:
        self.resized.append(size)


class Tokens:
    async def get(self, pod: Pod, audience: str, seconds: int) -> Token:
        return Token(f"token-{audience}-{seconds}", 1_800_000_000.0, 0.0, 0.0)


class Node:
    """A kubelet's CSI part, with a driver."""

    def __init__(self, root: Path, driver: CsiDriver) -> None:
        self.root = root
        self.driver = driver
        self.objects = Objects()
        self.make()

    def make(self) -> None:
        """Begin anew, as after a restart."""
        self.drivers = Drivers(None)
        objects: Any = self.objects
        tokens: Any = Tokens()
        context = Context(
            node=NodeFacts(name="n", root_dir=self.root), objects=NoObjects(), tokens=tokens
        )
        self.plugin = CsiPlugin(self.root, "n", self.drivers, objects, context)

    async def register(self) -> None:
        await self.drivers.register(DRIVER, str(self.driver.socket), ["1.0.0"])

    def request(
        self, uid: str = "u1", *, spec: dict[str, Any] | None = None, **fields: Any
    ) -> VolumeRequest:
        pod = decode({"metadata": {"name": "p", "namespace": "ns", "uid": uid}}, Pod)
        csi = {"driver": DRIVER, "volumeHandle": "h", "volumeAttributes": {"own": "yes"}}
        csi["nodeStageSecretRef"] = {"namespace": "x", "name": "stage"}
        whole = {"accessModes": ["ReadWriteOnce"], "csi": csi, **(spec or {})}
        source = VolumeSource(
            volume={"metadata": {"name": "pv"}, "spec": whole}, claim=fields.pop("claim", None)
        )
        directory = PodPaths(self.root, uid).volume(NAME, "pv")
        return VolumeRequest(
            pod=pod, name="v", spec_name="pv", source=source, directory=directory, **fields
        )

    def inline(self, uid: str = "u1") -> VolumeRequest:
        pod = decode(
            {
                "metadata": {"name": "p", "namespace": "ns", "uid": uid},
                "spec": {"volumes": [{"name": "v", "csi": {"driver": DRIVER}}]},
            },
            Pod,
        )
        return VolumeRequest(
            pod=pod,
            name="v",
            spec_name="v",
            source=VolumeSource(inline=pod.spec.volumes[0]),
            directory=PodPaths(self.root, uid).volume(NAME, "v"),
        )


def record(spec_name: str = "pv") -> MountRecord:
    return MountRecord(name="v", spec_name=spec_name, plugin=NAME)


@pytest.fixture
async def node(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(drivers, "GRACE", 0.01)
    driver = await CsiDriver(sockets / "csi.sock", sockets / "volumes").start()
    made = Node(sockets / "root", driver)
    await made.register()
    yield made
    await made.drivers.close()
    await made.driver.stop()
    await driver.stop()
    # A call that was aborted keeps its server in a cycle, which must not outlive the loop.
    del driver, made
    gc.collect()


def left(root: Path) -> list[str]:
    """Files and innermost directories below the root."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() or not any(path.iterdir())
    )


async def test_a_volume_is_staged_once_and_published_for_each_pod(node: Node) -> None:
    one, two = node.request("u1"), node.request("u2", read_only=True)
    assert node.plugin.supports(one.source)
    for request in (one, two):
        await node.plugin.set_up(request)
    assert node.driver.names() == ["stage", "publish", "publish"]
    stage, first, second = (call for _, call in node.driver.calls)
    assert stage["publishContext"] == {"device": "sdx"}
    assert stage["secrets"] == {"key": "x/stage"}
    assert stage["volumeContext"] == {"own": "yes"}
    assert stage["stagingTargetPath"] == first["stagingTargetPath"]
    assert stage["stagingTargetPath"].endswith("/globalmount")
    assert first["targetPath"] == node.plugin.path(one) == str(one.directory / "mount")
    assert "readonly" not in first
    assert second["readonly"] is True
    assert node.objects.in_use == {"kubernetes.io/csi/d.io^h"}
    # Again: nothing is asked of the driver for a volume that is there.
    await node.plugin.set_up(one)
    await node.plugin.tear_down("u1", record())
    assert node.driver.names()[3:] == ["unpublish"]
    await node.plugin.tear_down("u2", record())
    assert node.driver.names()[4:] == ["unpublish", "unstage"]
    assert node.objects.in_use == set()
    assert [name for name in left(node.root) if name.endswith(".json")] == []
    await node.plugin.tear_down("u2", record())  # nothing is fine
    assert len(node.driver.calls) == 6


async def test_what_is_needed_to_undo_it_is_written_as_go_does(node: Node) -> None:
    request = node.request()
    await node.plugin.set_up(request)
    known = json.loads((request.directory / data.FILE).read_text())
    assert known | {"attachmentID": ""} == {
        "specVolID": "pv",
        "volumeHandle": "h",
        "driverName": DRIVER,
        "nodeName": "n",
        "volumeLifecycleMode": "Persistent",
        "attachmentID": "",
    }
    staged = list((node.root / "plugins").rglob(data.FILE))
    assert len(staged) == 1
    assert json.loads(staged[0].read_text())["volumeHandle"] == "h"


async def test_another_kubelet_undoes_what_an_earlier_one_did(node: Node) -> None:
    await node.plugin.set_up(node.request())
    await node.drivers.close()
    node.objects.in_use.clear()
    node.make()
    assert node.objects.in_use == {"kubernetes.io/csi/d.io^h"}
    with pytest.raises(VolumeError, match=r"driver name d\.io not found in the list of registered"):
        await node.plugin.tear_down("u1", record())
    await node.register()
    await node.plugin.tear_down("u1", record())
    assert node.driver.names()[2:] == ["unpublish", "unstage"]
    assert node.objects.in_use == set()


async def test_a_volume_that_an_earlier_kubelet_only_staged_is_unstaged(node: Node) -> None:
    node.driver.fault["publish"] = (grpc.StatusCode.INTERNAL, "no")
    with pytest.raises(VolumeError, match="rpc error: code = Internal desc = no"):
        await node.plugin.set_up(node.request())
    await node.drivers.close()
    node.make()
    await node.register()
    await node.plugin.tidy(DRIVER)
    assert node.driver.names() == ["stage", "publish", "unstage"]
    assert [name for name in left(node.root) if name.endswith(".json")] == []


async def test_a_pod_whose_volume_was_never_published_leaves_nothing_staged(node: Node) -> None:
    node.driver.fault["publish"] = (grpc.StatusCode.INTERNAL, "no")
    with pytest.raises(VolumeError):
        await node.plugin.set_up(node.request())
    await node.plugin.tear_down("u1", record())
    assert node.driver.names() == ["stage", "publish", "unstage"]


async def test_a_driver_that_may_still_be_at_it_is_asked_to_undo(node: Node) -> None:
    node.driver.fault["publish"] = (grpc.StatusCode.ABORTED, "busy")
    with pytest.raises(VolumeError, match="Aborted"):
        await node.plugin.set_up(node.request())
    await node.plugin.tear_down("u1", record())
    assert node.driver.names() == ["stage", "publish", "unpublish", "unstage"]


async def test_an_unstage_that_fails_is_tried_again(node: Node) -> None:
    await node.plugin.set_up(node.request())
    node.driver.fault["unstage"] = (grpc.StatusCode.INTERNAL, "busy")
    with pytest.raises(VolumeError, match="TearDownAt failed: rpc error"):
        await node.plugin.tear_down("u1", record())
    node.driver.fault.clear()
    await node.plugin.tear_down("u1", record())
    assert node.driver.names()[2:] == ["unpublish", "unstage", "unpublish", "unstage"]
    assert node.objects.in_use == set()


async def test_volumes_that_cannot_be_attached_say_so(node: Node) -> None:
    node.objects.attach_fault = "no such disk"
    with pytest.raises(VolumeError, match="no such disk"):
        await node.plugin.set_up(node.request())
    assert node.driver.calls == []


async def test_drivers_without_attaching_and_staging(node: Node, sockets: Path) -> None:
    node.objects.drivers[DRIVER] = {"spec": {"attachRequired": False}}
    await node.driver.stop()
    node.driver = await CsiDriver(sockets / "b.sock", sockets, capabilities=()).start()
    await node.register()
    await node.plugin.set_up(node.request())
    assert node.driver.names() == ["publish"]
    assert "stagingTargetPath" not in node.driver.calls[0][1]
    assert "publishContext" not in node.driver.calls[0][1]
    assert node.objects.in_use == set()
    await node.plugin.tear_down("u1", record())
    assert node.driver.names() == ["publish", "unpublish"]


async def test_inline_volumes_tell_of_their_pod_and_its_tokens(node: Node) -> None:
    spec: dict[str, Any] = {
        "volumeLifecycleModes": ["Ephemeral"],
        "podInfoOnMount": True,
        "requiresRepublish": True,
        "tokenRequests": [{"audience": "a", "expirationSeconds": 600}, {"audience": ""}],
    }
    node.objects.drivers[DRIVER] = {"spec": spec}
    made = await node.plugin.set_up(node.inline())
    assert made.again_after == AGAIN
    [(name, call)] = node.driver.calls
    assert name == "publish"
    context = call["volumeContext"]
    assert context["csi.storage.k8s.io/ephemeral"] == "true"
    assert context["csi.storage.k8s.io/pod.uid"] == "u1"
    assert json.loads(context[TOKENS]) == {
        "a": {"token": "token-a-600", "expirationTimestamp": "2027-01-15T08:00:00Z"},
        "": {"token": "token--3600", "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }
    spec["serviceAccountTokenInSecrets"] = True
    await node.plugin.set_up(node.inline())
    again = node.driver.calls[1][1]
    assert TOKENS in again["secrets"]
    assert TOKENS not in again["volumeContext"]
    await node.plugin.tear_down("u1", record("v"))
    assert node.driver.names()[2:] == ["unpublish"]


async def test_inline_volumes_need_a_driver_that_makes_them(node: Node) -> None:
    with pytest.raises(VolumeError, match="no CSIDriver object"):
        await node.plugin.set_up(node.inline())


async def test_a_volume_that_grew_is_expanded_and_the_claim_told(node: Node) -> None:
    claim: dict[str, Any] = {
        "metadata": {"name": "c", "namespace": "ns"},
        "status": {"capacity": {"storage": "1Gi"}},
    }
    grown = node.request(spec={"capacity": {"storage": "2Gi"}}, claim=claim)
    made = await node.plugin.set_up(grown)
    assert made.again_after == AGAIN
    name, call = node.driver.calls[-1]
    assert name == "expand"
    assert call["capacityRange"] == {"requiredBytes": str(2 * 1024**3)}
    assert call["volumePath"] == str(grown.directory / "mount")
    assert node.objects.resized == ["2Gi"]
    claim["status"]["capacity"]["storage"] = "2Gi"
    await node.plugin.set_up(grown)
    assert node.driver.names().count("expand") == 1


async def test_raw_devices_are_published_beside_the_pods(node: Node) -> None:
    request = node.request(block=True)
    await node.plugin.set_up(request)
    stage, publish = (call for _, call in node.driver.calls)
    devices = node.root / "plugins/kubernetes.io/csi/volumeDevices"
    assert stage["stagingTargetPath"] == str(devices / "staging/pv")
    assert publish["targetPath"] == node.plugin.path(request) == str(devices / "publish/pv/u1")
    assert publish["volumeCapability"]["block"] == {}


async def test_space_is_what_the_driver_says(node: Node) -> None:
    await node.plugin.set_up(node.request())
    found = await node.plugin.usage("u1", record())
    assert (found.capacity, found.available, found.used) == (100, 60, 40)
    assert (found.inodes, found.inodes_free, found.inodes_used) == (10, 8, 2)
    with pytest.raises(VolumeError, match="not published"):
        await node.plugin.usage("u2", record())


@pytest.mark.parametrize(
    ("code", "final"),
    [
        (grpc.StatusCode.INTERNAL, True),
        (grpc.StatusCode.INVALID_ARGUMENT, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, False),
        (grpc.StatusCode.UNAVAILABLE, False),
        (grpc.StatusCode.ABORTED, False),
    ],
)
def test_some_errors_leave_it_open_whether_the_driver_goes_on(
    code: grpc.StatusCode, final: bool
) -> None:
    assert PluginError(code, "").final is final
