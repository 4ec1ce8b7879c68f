from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from kubeletpy.affinity import cpu_state, memory_state
from kubeletpy.affinity import setup as module
from kubeletpy.affinity.cpu_state import CpuState
from kubeletpy.affinity.setup import Affinity, set_up
from kubeletpy.cri.client import CriClient
from kubeletpy.settings import ConfigurationError, Settings
from kubeletpy.settings.configuration import KubeletConfiguration, MemoryReservation

from .machines import machine, pod

STATIC = {"cpu_manager_policy": "static", "kube_reserved": {"cpu": "500m", "memory": "1Gi"}}


@pytest.fixture(autouse=True)
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two NUMA nodes of two CPUs and 10 GiB each."""
    monkeypatch.setattr(module, "read_machine", lambda: machine(2))


def made(root: Path, **fields: Any) -> Affinity:
    settings = Settings(configuration=KubeletConfiguration(**fields), root_dir=root)
    return set_up(settings, cast(CriClient, None))


def test_without_policies_nothing_is_kept(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert (found.cpus, found.memory, found.pinning) == (None, None, None)
    assert not any(tmp_path.iterdir())


def test_the_static_policies_begin_with_everything_shared(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        **STATIC,
        memory_manager_policy="Static",
        reserved_memory=[MemoryReservation(numa_node=1, limits={"memory": "1124Mi"})],
    )
    assert found.cpus is not None
    assert found.cpus.reserved == {0}
    assert found.memory is not None
    assert [block.size for block in found.memory.allocatable] == [
        10 * 1024**3,
        10 * 1024**3 - 1124 * 1024**2,  # kubeReserved, and 100Mi of hard eviction
    ]
    assert not found.lost
    assert cpu_state.load(tmp_path) == CpuState("static", frozenset({0, 1, 2, 3}))
    assert memory_state.load(tmp_path) is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cpu_manager_policy": "static"}, "to be greater than zero"),
        ({**STATIC, "cpu_manager_policy_options": {"x": "true"}}, "unknown option 'x'"),
        ({**STATIC, "reserved_system_cpus": "9"}, "has no CPU 9"),
        ({"memory_manager_policy": "Static"}, "add up to 0 bytes"),
        ({"topology_manager_policy": "some"}, "unknown policy 'some'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        made(tmp_path, **fields)


async def test_what_pods_have_is_found_again(tmp_path: Path) -> None:
    one = pod("a", {"cpu": "2"})
    assert await made(tmp_path, **STATIC).manager.admit(one) is None
    again = made(tmp_path, **STATIC).cpus
    assert again is not None
    assert again.state.entries == {"a": {"c0": {2, 3}}}
    # Other settings than those by which they were given need the node drained.
    with pytest.raises(ConfigurationError, match="drain the node"):
        made(tmp_path, **STATIC, reserved_system_cpus="2")
    with pytest.raises(ConfigurationError, match="pods have CPUs or memory of their own"):
        made(tmp_path)


def test_a_state_that_nobody_has_a_part_in_does_not_hold_up_other_settings(tmp_path: Path) -> None:
    made(tmp_path, **STATIC)
    options = {"strict-cpu-reservation": "true"}
    strict = made(tmp_path, **STATIC, cpu_manager_policy_options=options).cpus
    assert strict is not None
    assert strict.state.default == {1, 2, 3}
    made(tmp_path)
    assert not any(tmp_path.iterdir())


async def test_a_state_that_was_lost_is_made_anew(tmp_path: Path) -> None:
    one, two = pod("a", {"cpu": "2"}), pod("b", {"cpu": "500m"})
    assert await made(tmp_path, **STATIC).manager.admit(one) is None
    (tmp_path / cpu_state.FILE).write_text("{")
    found = made(tmp_path, **STATIC)
    assert found.lost
    assert (tmp_path / f"{cpu_state.FILE}.corrupt").read_text() == "{"
    await found.rebuild([one, two])
    assert found.cpus is not None
    assert found.cpus.state.entries == {"a": {"c0": {2, 3}}}
    assert cpu_state.load(tmp_path) == found.cpus.state
