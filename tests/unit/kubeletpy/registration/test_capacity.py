from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.registration.capacity import (
    allocatable,
    capacity,
    cpu_set,
    missing,
    reservations,
    written,
)
from kubeletpy.registration.machine import Machine, os_image
from kubeletpy.settings import Settings
from kubeletpy.settings.configuration import convert

MACHINE = Machine(
    cpus=2, memory=24684092 * 1024, storage=264212084 * 1024, hugepages={2**21: 2**22, 2**30: 0}
)


def has(**fields: Any) -> dict[str, str]:
    return written(capacity(MACHINE, convert(fields)))


def may_use(**fields: Any) -> dict[str, str]:
    one = convert(fields)
    return written(allocatable(capacity(MACHINE, one), Settings(configuration=one)))


def test_what_a_node_has() -> None:
    assert has() == {
        "cpu": "2", "memory": "24684092Ki", "ephemeral-storage": "264212084Ki", "pods": "110",
        "hugepages-2Mi": "4Mi", "hugepages-1Gi": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "pods"), [({"podsPerCore": 10}, "20"), ({"podsPerCore": 90}, "110")]
)
def test_pods_by_cpus(fields: dict[str, Any], pods: str) -> None:
    assert has(**fields)["pods"] == pods


def test_no_storage_without_its_isolation() -> None:
    assert "ephemeral-storage" not in has(localStorageCapacityIsolation=False)
    assert missing({"cpu", "memory", "pods"}, convert({})) == ["ephemeral-storage"]
    assert not missing({"cpu", "memory", "pods"}, convert({"localStorageCapacityIsolation": False}))


def test_what_pods_may_use() -> None:
    # 100 MiB and 10% are kept by hard eviction, the latter with the error of Go's 32-bit share;
    # 4 MiB are huge pages.
    found = may_use()
    assert found["memory"] == f"{24684092 - 100 * 1024 - 4096}Ki"
    assert found["ephemeral-storage"] == "243497856212"
    assert (found["cpu"], found["pods"], found["hugepages-2Mi"]) == ("2", "110", "4Mi")


@pytest.mark.parametrize(
    ("fields", "resource", "amount"),
    [
        ({"kubeReserved": {"cpu": "500m"}, "systemReserved": {"cpu": "250m"}}, "cpu", "1250m"),
        ({"kubeReserved": {"cpu": "5"}}, "cpu", "0"),
        ({"kubeReserved": {"cpu": "500m"}, "reservedSystemCPUs": "0"}, "cpu", "1"),
        ({"evictionHard": {}}, "ephemeral-storage", "264212084Ki"),
        ({"evictionHard": {"nodefs.available": "1Gi"}}, "ephemeral-storage", "263163508Ki"),
        ({"evictionHard": {}, "systemReserved": {"memory": "1Gi"}}, "memory", "23631420Ki"),
        ({"kubeReserved": {"pid": "100"}}, "pods", "110"),
    ],
)
def test_reservations(fields: dict[str, Any], resource: str, amount: str) -> None:
    assert may_use(**fields)[resource] == amount
    assert "pid" not in may_use(**fields)


def test_eviction_can_be_left_out() -> None:
    one = convert({})
    settings = Settings(configuration=one, ignore_eviction_in_allocatable=True)
    found = written(allocatable(capacity(MACHINE, one), settings))
    assert found["ephemeral-storage"] == "264212084Ki"


def test_sets_of_cpus() -> None:
    assert cpu_set("0-2,5") == {0, 1, 2, 5}
    kube, system = reservations(convert({"reservedSystemCPUs": "0-1"}))
    assert (written(kube), written(system)) == ({}, {"cpu": "2"})


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (
            'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "Debian GNU/Linux 12 (bookworm)",
        ),
        ("PRETTY_NAME=Plain\n", "Plain"),
        ("", "Linux"),
    ],
)
def test_name_of_the_distribution(release: str, name: str) -> None:
    assert os_image(release) == name
