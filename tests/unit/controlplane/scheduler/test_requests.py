"""What pods ask for, in whole numbers."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.scheduler.requests import Requests, requests_held, requests_of
from tests.support.placing.objects import pod

MIB = 1 << 20


def container(name: str, requests: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "x", "resources": {"requests": requests}, **more}


def always(name: str, cpu: str) -> dict[str, Any]:
    return container(name, {"cpu": cpu}, restartPolicy="Always")


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container("a", {"cpu": "1"}), container("b", {"cpu": "250m"})]}, 1250),
        ({"containers": [container("a", {"cpu": "1.0001"})]}, 1001),
        ({"initContainers": [container("i", {"cpu": "3"})],
          "containers": [container("a", {"cpu": "1"})]}, 3000),
        ({"initContainers": [always("s", "1"), container("i", {"cpu": "3"})],
          "containers": [container("a", {"cpu": "1"})]}, 4000),
        ({"initContainers": [container("i", {"cpu": "2"}), always("s", "1")],
          "containers": [container("a", {"cpu": "2"})]}, 3000),
        ({"containers": [container("a", {"cpu": "1"})], "overhead": {"cpu": "100m"}}, 1100),
        ({"containers": [container("a", {"cpu": "1"})],
          "resources": {"requests": {"cpu": "5"}}, "overhead": {"cpu": "1"}}, 6000),
        ({"containers": [{"name": "a", "image": "x"}]}, 0),
    ],
)  # fmt: skip
def test_cpu(spec: dict[str, Any], cpu: int) -> None:
    assert requests_of({"spec": spec}).cpu == cpu


def test_other_resources_are_counted_by_name_and_unknown_ones_are_not() -> None:
    asked = {"example.test/gpu": "2", "hugepages-2Mi": "4Mi", "storage": "1Gi",
             "ephemeral-storage": "1Ki"}  # fmt: skip
    found = requests_of({"spec": {"containers": [container("a", asked)]}})
    assert found.others == {"example.test/gpu": 2, "hugepages-2Mi": 4 * MIB}
    assert found.storage == 1024
    assert not found.none


def test_a_container_that_asks_for_nothing_counts_a_little_in_scores() -> None:
    containers = [container("a", {}), container("b", {"cpu": "1"})]
    found = requests_of({"spec": {"containers": containers}})
    assert (found.scored_cpu, found.scored_memory) == (1100, 400 * MIB)
    assert requests_of(pod()) == Requests(scored_cpu=100, scored_memory=200 * MIB)


@pytest.mark.parametrize(("infeasible", "cpu"), [(False, 3000), (True, 2000)])
def test_while_it_is_resized_a_pod_holds_the_most_of_all(infeasible: bool, cpu: int) -> None:
    value = pod(on="a", cpu="3")
    value["status"] = {"containerStatuses": [{
        "name": "main", "allocatedResources": {"cpu": "2"},
        "resources": {"requests": {"cpu": "1"}},
    }]}  # fmt: skip
    if infeasible:
        pending = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
        value["status"]["conditions"] = [pending]
    assert requests_held(value).cpu == cpu
