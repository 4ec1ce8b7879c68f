"""The texts and documents that are served."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kubeletpy.stats import cadvisor, shapes
from kubeletpy.stats.collector import Measured
from kubeletpy.stats.exposition import Families, written
from kubeletpy.stats.node import Filesystem, Interface, NodeUsage
from kubeletpy.stats.pods import ContainerUsage, PodUsage
from kubeletpy.stats.resource_metrics import resource_metrics
from kubeletpy.stats.usage import Usage
from kubeletpy_common.cgroups import Pressure, PressureStats
from kubeletpy_proto import cri_pb2 as cri

SECOND = 1_000_000_000
USAGE = Usage(time_ns=SECOND, cpu_ns=SECOND // 2, rate=5, usage=10, working_set=8, swap=0)
NODE = NodeUsage(USAGE, 0.0, (Interface("eth0", 1, 2, 3, 4),), "eth0", 5, 6)
POD = PodUsage("u1", "web", "default", "s1", "/kubepods/podu1", USAGE)
POD.containers = [ContainerUsage("c1", "main", USAGE, 7, 1, "/m")]
MEASURED = Measured(NODE, [POD], {})


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (one.name, one.labels.get("container", "-")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_resource_metrics() -> None:
    found = samples(resource_metrics(MEASURED, {}))
    assert found["node_cpu_usage_seconds_total", "-"] == 0.5
    assert found["container_memory_working_set_bytes", "main"] == 8
    assert found["pod_swap_usage_bytes", "-"] == 0
    assert found["resource_scrape_error", "-"] == 0
    assert samples(resource_metrics(None, {})) == {("resource_scrape_error", "-"): 1}


def test_labels_are_escaped() -> None:
    assert written({"b": 'x"\\\n', "a": "y"}) == 'a="y",b="x\\"\\\\\\n"'
    families = Families()
    families.describe("m", "gauge", "two\nlines")
    families.add("m", written({"a": "x\n"}), 1.5, 7)
    assert families.text() == '# HELP m two\\nlines\n# TYPE m gauge\nm{a="x\\n"} 1.5 7\n'


def test_cpu_time_of_kept_metrics_has_its_fractions() -> None:
    keys = ("pod", "namespace", "container", "id", "image", "name", "cpu")
    name = "container_cpu_usage_seconds_total"
    described = {name: cri.MetricDescriptor(name=name, help="x", label_keys=keys)}
    values = ("web", "default", "main", "/c1", "i", "c1", "total")
    metric = cri.Metric(
        name=name, timestamp=SECOND, metric_type=cri.COUNTER, label_values=values,
        value=cri.UInt64Value(value=0),
    )  # fmt: skip
    wrong = cri.Metric(name=name, label_values=("few",))
    listed = cri.PodSandboxMetrics(
        pod_sandbox_id="s1",
        container_metrics=[cri.ContainerMetrics(container_id="c1", metrics=[metric, wrong])],
    )
    families = Families()
    for one, (kind, text) in cadvisor._OWN.items():
        families.describe(one, kind, text)
    cadvisor.add_kept(families, described, [listed], MEASURED)
    found = samples(families.text())
    assert found[name, "main"] == 0.5
    # The pod as a whole, which this runtime keeps nothing about.
    assert found[name, ""] == 0.5


def test_runtimes_that_keep_no_metrics() -> None:
    families = Families()
    for one, (kind, text) in cadvisor._OWN.items():
        families.describe(one, kind, text)
    cadvisor.add_measured(families, MEASURED)
    found = samples(families.text())
    assert found["container_memory_working_set_bytes", "main"] == 8
    assert found["container_fs_usage_bytes", "main"] == 7
    assert found["container_cpu_usage_seconds_total", ""] == 0.5


def test_shapes_leave_out_what_is_not_known() -> None:
    assert shapes.cpu(Usage(time_ns=SECOND, cpu_ns=3)) == {
        "time": "1970-01-01T00:00:01Z",
        "usageCoreNanoSeconds": 3,
    }
    assert shapes.cpu(Usage()) is None
    assert shapes.memory(Usage()) is None
    assert shapes.network(0, [], "") is None
    assert shapes.disk(None, 0.0) is None
    assert shapes.disk(Filesystem(9, 8, 7, 6, 0, None), 0.0, name="v", pvcRef=None) == {
        "time": "1970-01-01T00:00:00Z",
        "availableBytes": 8,
        "capacityBytes": 9,
        "usedBytes": 0,
        "inodesFree": 6,
        "inodes": 7,
        "name": "v",
    }
    full = shapes.pressure(PressureStats(Pressure(1.0, 2.0, 3.0, 4)))
    assert full is not None
    assert full["some"] == {"total": 4, "avg10": 1.0, "avg60": 2.0, "avg300": 3.0}
    assert full["full"]["total"] == 0
    assert (shapes.sum_of(None, 2), shapes.sum_of(1, 2), shapes.sum_of(None, None)) == (2, 3, None)
