from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.resources.limits import (
    Limits,
    container_limits,
    cpu_quota,
    cpu_shares,
    memory_protection,
    milli_of_quota,
    milli_of_shares,
    oom_score_adj,
    pod_cgroup_limits,
)
from kubeletpy.resources.policy import ResourcePolicy
from kubeletpy.resources.totals import pod_limits, pod_requests

from ..api.pods import make_pod, with_container

GI = 2**30


def container(name: str, resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "x:1", "resources": resources, **more}


def shown(amounts: dict[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}


@pytest.mark.parametrize(
    ("milli", "shares", "quota"),
    [(0, 2, 0), (1, 2, 1000), (10, 10, 1000), (100, 102, 10_000), (1000, 1024, 100_000),
     (2500, 2560, 250_000), (10**9, 262144, 10**11)],
)  # fmt: skip
def test_cpu(milli: int, shares: int, quota: int) -> None:
    assert cpu_shares(milli) == shares
    assert cpu_quota(milli) == quota


def test_sum_of_containers_or_the_largest_init_container() -> None:
    pod = make_pod(
        initContainers=[
            container("a", {"requests": {"cpu": "3", "memory": "1Mi"}}),
            container("b", {"requests": {"cpu": "1"}}),
        ],
        containers=[
            container("c", {"requests": {"cpu": "1", "memory": "1Gi"}}),
            container("d", {"requests": {"cpu": "500m"}}),
        ],
    )
    assert shown(pod_requests(pod)) == {"cpu": "3", "memory": "1Gi"}
    assert pod_limits(pod) == {}


def test_sidecars_run_beside_what_comes_after_them() -> None:
    pod = make_pod(
        initContainers=[
            container("first", {"requests": {"cpu": "3"}}),
            container("side", {"requests": {"cpu": "1"}}, restartPolicy="Always"),
            container("last", {"requests": {"cpu": "2500m"}}),
        ],
        containers=[container("main", {"requests": {"cpu": "2"}})],
    )
    # first: 3; side and last: 3500m; side and main: 3.
    assert shown(pod_requests(pod)) == {"cpu": "3500m"}


def test_requests_of_the_pod_and_overhead() -> None:
    pod = make_pod(
        resources={"limits": {"cpu": "4"}, "requests": {"cpu": "2"}},
        overhead={"cpu": "250m", "memory": "10Mi"},
        **with_container(resources={"requests": {"cpu": "1", "memory": "1Mi"}}),
    )
    assert shown(pod_requests(pod)) == {"cpu": "2250m", "memory": "11Mi"}
    assert shown(pod_limits(pod)) == {"cpu": "4250m"}


@pytest.mark.parametrize(
    ("containers", "limits"),
    [
        ([{}], Limits(cpu_shares=2)),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}] * 2,
         Limits(2048, 200_000, 100_000, 2 * GI)),
        ([{"limits": {"cpu": "1"}}, {}], Limits(1024)),
        ([{"limits": {"cpu": "1"}}, {"limits": {"cpu": "1", "memory": "1Gi"}}],
         Limits(2048, 200_000, 100_000)),
        ([{"requests": {"cpu": "250m"}}], Limits(256)),
    ],
)  # fmt: skip
def test_cgroup_of_a_pod(containers: list[dict[str, Any]], limits: Limits) -> None:
    pod = make_pod(
        containers=[container(f"c{index}", each) for index, each in enumerate(containers)]
    )
    assert pod_cgroup_limits(pod) == limits


def test_limits_of_a_container() -> None:
    pod = make_pod(**with_container(resources={"limits": {"cpu": "500m", "memory": "1Gi"}}))
    assert container_limits(pod, pod.spec.containers[0]) == Limits(512, 50_000, 100_000, GI)
    plain = make_pod()
    assert container_limits(plain, plain.spec.containers[0]) == Limits(2, None, 100_000)


@pytest.mark.parametrize(
    ("resources", "score"),
    [
        ({}, 1000),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, -997),
        ({"requests": {"cpu": "1"}}, 999),
        ({"requests": {"memory": "1Gi"}}, 900),
        ({"requests": {"memory": "1Ki"}}, 999),
        ({"requests": {"memory": "10Gi"}}, 3),
        ({"requests": {"memory": "100Gi"}}, 3),
    ],
)
def test_oom_score(resources: dict[str, Any], score: int) -> None:
    pod = make_pod(**with_container(resources=resources))
    assert oom_score_adj(pod, pod.spec.containers[0], 10 * GI) == score


def test_oom_score_of_a_node_critical_pod() -> None:
    pod = make_pod(priorityClassName="system-node-critical")
    assert oom_score_adj(pod, pod.spec.containers[0], 10 * GI) == -997


def test_a_sidecar_outlives_what_it_serves() -> None:
    pod = make_pod(
        initContainers=[container("side", {}, restartPolicy="Always"), container("init", {})],
        **with_container(resources={"requests": {"memory": "5Gi"}}),
    )
    side, init = pod.spec.init_containers
    assert oom_score_adj(pod, side, 10 * GI) == 500
    assert oom_score_adj(pod, init, 10 * GI) == 999


def test_limits_of_the_pod_where_the_container_has_none() -> None:
    pod = make_pod(
        resources={"limits": {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "4Mi"}},
        containers=[container("plain", {}), container("own", {"limits": {"cpu": "1"}})],
    )
    plain, own = (container_limits(pod, each) for each in pod.spec.containers)
    assert plain == Limits(2048, 200_000, 100_000, GI, {"2MB": 4 * 2**20})
    assert (own.cpu_quota_us, own.memory_bytes) == (100_000, GI)


@pytest.mark.parametrize(
    ("policy", "exclusive", "quota", "period"),
    [
        ({}, False, 50_000, 100_000),
        ({"quota_period_us": 10_000}, False, 5000, 10_000),
        ({}, True, -1, 100_000),
        ({"enforce_cpu_quota": False}, False, None, None),
    ],
)
def test_quota(
    policy: dict[str, Any], exclusive: bool, quota: int | None, period: int | None
) -> None:
    pod = make_pod(**with_container(resources={"limits": {"cpu": "500m", "memory": "1Gi"}}))
    limits = container_limits(
        pod, pod.spec.containers[0], ResourcePolicy(**policy), exclusive_cpus=exclusive
    )
    assert (limits.cpu_quota_us, limits.cpu_period_us) == (quota, period)


def test_a_request_of_nothing_beside_a_limit_is_one() -> None:
    pod = make_pod(**with_container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "0"}}))
    assert container_limits(pod, pod.spec.containers[0]).cpu_shares == 2


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
         {"memory.high": str(GI + GI * 9 // 10 // 4096 * 4096)}),
        ({"requests": {"memory": "1Gi"}},
         {"memory.min": "0", "memory.low": "0", "memory.high": str(7789240320)}),
        ({"limits": {"memory": "1Gi", "cpu": "1"}}, {"memory.min": "0", "memory.low": "0"}),
    ],
)  # fmt: skip
def test_memory_qos(resources: dict[str, Any], files: dict[str, str]) -> None:
    pod = make_pod(**with_container(resources=resources))
    policy = ResourcePolicy(memory_qos=True, allocatable_memory=8535408640)
    found = memory_protection(pod, pod.spec.containers[0], policy)
    assert {key: found[key] for key in files} == files
    assert ("memory.high" in found) == ("memory.high" in files)
    assert memory_protection(pod, pod.spec.containers[0], ResourcePolicy()) == {}


def test_memory_qos_in_tiers() -> None:
    policy = ResourcePolicy(memory_qos=True, memory_reservation="TieredReservation")
    for resources, files in (
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, {"memory.min": str(GI)}),
        ({"requests": {"memory": "1Gi"}}, {"memory.low": str(GI)}),
    ):
        pod = make_pod(**with_container(resources=resources))
        assert pod_cgroup_limits(pod, policy).unified == files


def test_oom_score_with_memory_of_the_pod() -> None:
    pod = make_pod(
        resources={"requests": {"memory": "4Gi"}},
        containers=[container("a", {"requests": {"memory": "2Gi"}}), container("b", {})],
    )
    a, b = pod.spec.containers
    # 2 GiB are nobody's: a GiB each.
    assert oom_score_adj(pod, a, 10 * GI) == 700
    assert oom_score_adj(pod, b, 10 * GI) == 900


@pytest.mark.parametrize(("milli", "back"), [(0, 2), (1, 2), (10, 10), (100, 100), (1000, 1000)])
def test_requests_read_back_from_weights(milli: int, back: int) -> None:
    assert milli_of_shares(cpu_shares(milli)) == back


def test_limits_read_back_from_quotas() -> None:
    assert milli_of_quota(25_000, 100_000) == 250
    assert milli_of_quota(-1, 100_000) == milli_of_quota(0, 0) == 0
