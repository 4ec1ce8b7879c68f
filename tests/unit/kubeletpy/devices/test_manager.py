from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from kubeletpy.affinity.errors import AllocationError
from kubeletpy.affinity.hints import Hint
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.devices import records
from kubeletpy.devices.manager import FORGOTTEN_AFTER, DeviceManager
from kubeletpy.devices.needs import add_needs
from kubeletpy.devices.records import Grant, Records
from kubeletpy.devices.server import SOCKET, RegistrationServer
from kubeletpy_proto import cri_pb2
from tests.support.device_plugin import DevicePlugin
from tests.unit.kubeletpy.affinity.machines import pod

GPU = "vendor.com/gpu"
ANY = Hint(None, True)


class Node:
    """A device manager that listens, and its plug-ins."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.rang = asyncio.Event()
        self.manager = DeviceManager(directory, (0, 1), self.rang.set, lambda: self.now)
        self.server = RegistrationServer(directory, self.manager)
        self.plugins: list[DevicePlugin] = []

    async def plugin(self, devices: dict[str, tuple[int, ...]], name: str = "gpu") -> DevicePlugin:
        made = DevicePlugin(self.directory / f"{name}.sock", devices)
        self.plugins.append(made)
        return await made.start()

    async def until(self, capacity: int, allocatable: int, resource: str = GPU) -> None:
        """Wait until the node has so many devices."""
        async with asyncio.timeout(10):
            while True:
                self.rang.clear()
                found = self.manager.amounts()
                if (found[0].get(resource), found[1].get(resource)) == (capacity, allocatable):
                    return
                await self.rang.wait()

    async def give(self, uid: str, count: int, hint: Hint = ANY) -> set[str]:
        one = pod(uid, {GPU: str(count)})
        await self.manager.allocate(one, one.spec.containers[0], hint)
        return set(self.manager.grants(uid, "c0")[GPU].ids)


@pytest.fixture
async def node(sockets: Path) -> AsyncIterator[Node]:
    found = Node(sockets)
    await found.server.start()
    yield found
    await found.manager.close()
    await found.server.close()
    for plugin in found.plugins:
        await plugin.stop()


async def started(node: Node, *ids: str, nodes: tuple[int, ...] = ()) -> DevicePlugin:
    plugin = await node.plugin(dict.fromkeys(ids, nodes))
    await plugin.register(node.directory / SOCKET, GPU)
    await node.until(len(ids), len(ids))
    return plugin


async def test_the_socket_is_roots_alone(node: Node) -> None:
    assert stat.S_IMODE((node.directory / SOCKET).lstat().st_mode) == 0o600


async def test_devices_become_the_nodes(node: Node) -> None:
    plugin = await started(node, "a", "b", "c")
    await plugin.change("b")
    await node.until(3, 2)
    assert not node.manager.health(GPU, "b")
    assert node.manager.health(GPU, "a")
    await plugin.change()
    await node.until(3, 3)


async def test_a_plugin_that_goes_leaves_unhealthy_devices_and_is_forgotten_later(
    node: Node,
) -> None:
    plugin = await started(node, "a", "b")
    await plugin.stop()
    await node.until(2, 0)
    with pytest.raises(AllocationError, match="no healthy devices present"):
        await node.give("p", 1)
    node.now = FORGOTTEN_AFTER + 1
    assert node.manager.amounts() == ({}, {}, {GPU})
    assert node.manager.amounts() == ({}, {}, set())


async def test_a_plugin_that_registers_again_takes_the_place_of_the_first(node: Node) -> None:
    await started(node, "a", "b")
    second = await node.plugin({"c": ()}, "second")
    await second.register(node.directory / SOCKET, GPU)
    await node.until(1, 1)
    assert await node.give("p", 1) == {"c"}


@pytest.mark.parametrize(
    ("version", "endpoint", "resource", "message"),
    [
        ("v1alpha1", "gpu.sock", GPU, "not among plugin supported versions"),
        ("v1beta1", "gpu.sock", "gpu", "is invalid"),
        ("v1beta1", "../gpu.sock", GPU, "no name of a socket"),
        ("v1beta1", SOCKET, GPU, "no name of a socket"),
    ],
)
async def test_registrations_that_cannot_be_are_refused(
    node: Node, version: str, endpoint: str, resource: str, message: str
) -> None:
    from kubeletpy.plugins.channels import connect
    from kubeletpy_proto import deviceplugin_pb2, deviceplugin_pb2_grpc

    async with connect(node.directory / SOCKET) as channel:
        stub: deviceplugin_pb2_grpc.RegistrationAsyncStub
        stub = deviceplugin_pb2_grpc.RegistrationStub(channel)
        request = deviceplugin_pb2.RegisterRequest(
            version=version, endpoint=endpoint, resource_name=resource
        )
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Register(request, timeout=10)
    assert message in (error.value.details() or "")


async def test_no_device_is_given_twice(node: Node) -> None:
    await started(node, "a", "b", "c")
    first, second = await asyncio.gather(node.give("p", 1), node.give("q", 2))
    assert first | second == {"a", "b", "c"}
    assert await node.give("p", 1) == first  # asked again
    with pytest.raises(AllocationError) as error:
        await node.give("r", 1)
    assert error.value.as_admission_error().message == (
        "Allocate failed due to requested number of devices unavailable for vendor.com/gpu. "
        "Requested: 1, Available: 0, which is unexpected"
    )
    node.manager.release("p")
    assert await node.give("r", 1) == first


async def test_a_plugin_that_refuses_leaves_nothing_taken(node: Node) -> None:
    plugin = await started(node, "a")
    plugin.fault = "too hot"
    with pytest.raises(AllocationError, match="rpc error: code = Unknown desc = too hot"):
        await node.give("p", 1)
    plugin.fault = ""
    assert await node.give("q", 1) == {"a"}


async def test_the_plugin_may_prefer_some(node: Node) -> None:
    plugin = await node.plugin({"a": (0,), "b": (0,), "c": (0,), "d": (1,)})
    plugin.options.get_preferred_allocation_available = True
    plugin.wish = ["d", "c", "zzz"]
    await plugin.register(node.directory / SOCKET, GPU)
    await node.until(4, 4)
    # Of the node of the hint, though it wishes for another.
    assert await node.give("p", 1, Hint(0b1, True)) == {"c"}
    assert sorted(plugin.asked_for_wish[0].available_deviceIDs) == ["a", "b", "c"]
    # More than the node has: all of it, then what is wished.
    assert await node.give("q", 3, Hint(0b1, True)) == {"a", "b", "d"}
    assert sorted(plugin.asked_for_wish[1].must_include_deviceIDs) == ["a", "b"]


async def test_init_containers_devices_are_used_again(node: Node) -> None:
    await started(node, "a", "b", "c")
    one = pod("p", {GPU: "1"}, {GPU: "1"}, init=({GPU: "2"}, {GPU: "1", "sidecar": "y"}))
    for container in (*one.spec.init_containers, *one.spec.containers):
        if container.name == "c1":
            continue
        await node.manager.allocate(one, container, ANY)
    have = {name: set(node.manager.grants("p", name)[GPU].ids) for name in ("i0", "i1", "c0")}
    assert have["i0"] == have["i1"] | have["c0"]
    assert not have["i1"] & have["c0"]


async def test_hints_follow_the_devices(node: Node) -> None:
    plugin = await node.plugin({"a": (0,), "b": (1,), "c": (1,)})
    await plugin.register(node.directory / SOCKET, GPU)
    await node.until(3, 3)
    one, two = pod("p", {GPU: "1"}), pod("q", {GPU: "1"}, {GPU: "1"})
    assert node.manager.hints(one, one.spec.containers[0]) == {
        GPU: [Hint(1, True), Hint(2, True), Hint(3, False)]
    }
    assert node.manager.pod_hints(two) == {GPU: [Hint(2, True), Hint(3, False)]}
    assert await node.give("p", 1, Hint(0b10, True)) < {"b", "c"}
    assert node.manager.hints(one, one.spec.containers[0]) == {
        GPU: [Hint(2, True), Hint(3, False)]  # what it has
    }
    other = pod("r", {"example.com/unknown": "1"})
    assert node.manager.hints(other, other.spec.containers[0]) == {}


async def test_a_container_gets_what_its_devices_need(node: Node) -> None:
    plugin = await started(node, "a")
    plugin.options.pre_start_required = True
    await plugin.register(node.directory / SOCKET, GPU)
    needs = plugin.needs
    needs.envs.update({"GPU": "a", "OWN": "theirs"})
    needs.mounts.add(container_path="/lib/gpu", host_path="/opt/gpu", read_only=True)
    needs.mounts.add(container_path="/data", host_path="/opt/data")
    needs.devices.add(container_path="/dev/gpu0", host_path="/dev/null", permissions="rw")
    needs.annotations["gpu"] = "a"
    needs.cdi_devices.add(name="vendor.com/gpu=a")
    await node.until(1, 1)
    await node.give("p", 1)
    one = pod("p", {GPU: "1"})
    config = cri_pb2.ContainerConfig(
        envs=[cri_pb2.KeyValue(key="OWN", value=b"mine")],
        mounts=[cri_pb2.Mount(container_path="/data", host_path="/volume")],
    )
    add_needs(config, await node.manager.prepare(one, one.spec.containers[0]))
    assert plugin.started == [["a"]]
    assert [(each.key, each.value) for each in config.envs] == [("GPU", b"a"), ("OWN", b"mine")]
    assert [(each.container_path, each.host_path, each.readonly) for each in config.mounts] == [
        ("/lib/gpu", "/opt/gpu", True),
        ("/data", "/volume", False),
    ]
    assert config.devices[0].host_path == "/dev/null"
    assert dict(config.annotations) == {"gpu": "a"}
    assert [each.name for each in config.CDI_devices] == ["vendor.com/gpu=a"]


async def test_grants_survive_a_restart_and_wait_for_the_plugin(node: Node) -> None:
    plugin = await started(node, "a", "b")
    plugin.needs.envs["GPU"] = "x"
    given = await node.give("p", 1)
    later = DeviceManager(node.directory, (0, 1))
    later.load()
    assert later.grants("p", "c0")[GPU].ids == given
    assert later.amounts() == ({GPU: 0}, {GPU: 0}, set())
    one = pod("p", {GPU: "1"})
    await later.allocate(one, one.spec.containers[0], ANY)  # it has them
    with pytest.raises(AllocationError, match="is not registered"):
        await later.prepare(one, one.spec.containers[0])
    await later.connect(GPU, plugin.socket)
    answers = await later.prepare(one, one.spec.containers[0])
    assert dict(answers[0].envs) == {"GPU": "x"}
    await later.close()


async def test_a_damaged_checkpoint_is_set_aside(node: Node) -> None:
    path = node.directory / records.FILE
    path.write_text('{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}')
    node.manager.load()
    assert not path.exists()
    assert path.with_name(f"{records.FILE}.corrupt").exists()
    assert node.manager.amounts() == ({}, {}, set())


def test_the_checkpoint_is_read_as_written(tmp_path: Path) -> None:
    assert records.load(tmp_path) is None
    found = Records(registered={GPU: ["a", "b"]})
    found.put("p", "c", GPU, Grant({-1: ("a",), 1: ("b",)}, b"\x01\x02"))
    records.save(tmp_path, found)
    assert records.load(tmp_path) == found
    records.save(tmp_path, Records())
    assert records.load(tmp_path) == Records()


async def test_the_health_of_its_devices_is_in_the_status_of_a_pod(node: Node) -> None:
    plugin = await started(node, "d1", "d2")
    told: list[str] = []
    node.manager.measures.on_allocation.append(lambda resource, seconds: told.append(resource))
    ids = await node.give("u1", 1)
    assert told == [GPU]
    status = PodStatus(container_statuses=[
        ContainerStatus(name="c0", ready=True, restart_count=0, image="", image_id=""),
        ContainerStatus(name="other", ready=True, restart_count=0, image="", image_id=""),
    ])  # fmt: skip
    one = pod("u1", {GPU: "1"})

    def health() -> list[tuple[str, str]]:
        node.manager.add_to_pod_status(one, status)
        [resource] = status.container_statuses[0].allocated_resources_status
        assert resource.name == GPU
        return [(each.resource_id, each.health) for each in resource.resources]

    [device] = ids
    assert health() == [(device, "Healthy")]
    assert status.container_statuses[1].allocated_resources_status == []
    await plugin.change(device)
    await node.until(2, 1)
    assert health() == [(device, "Unhealthy")]
