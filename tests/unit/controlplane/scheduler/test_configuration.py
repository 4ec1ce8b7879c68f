"""KubeSchedulerConfiguration: read as it is, what is wrong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click.testing
import pytest

from controlplane.engine.host import Settings
from controlplane.engine.resources import PODS, STORAGE_CLASSES
from controlplane.scheduler.__main__ import configured, main
from controlplane.scheduler.configuration import Configuration, decode, read
from controlplane.scheduler.profiles import check
from kubeletpy_common.settings.durations import ConfigurationError
from tests.support.bench_scheduler import Bench
from tests.support.hollow import node
from tests.support.placing.objects import SMALL, TAINT, nodes, pod

FILE = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
parallelism: 4
percentageOfNodesToScore: 50
podInitialBackoffSeconds: 2
leaderElection: {leaderElect: false, leaseDuration: 20s, resourceName: mine}
clientConnection: {kubeconfig: /etc/scheduler.conf, qps: 100, burst: 200}
profiles:
- schedulerName: default-scheduler
- schedulerName: packer
  plugins:
    multiPoint:
      enabled: [{name: NodeResourcesFit, weight: 10}]
      disabled: [{name: PodTopologySpread}, {name: ImageLocality}]
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit}]
    postFilter: {disabled: [{name: DefaultPreemption}]}
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}
"""


def profile(**more: Any) -> dict[str, Any]:
    return {"profiles": [more]}


def test_a_file_of_the_peer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.yaml"
    path.write_text(FILE)
    one = read(path)
    check(one)
    settings = configured(Settings("kube-scheduler"), one, frozenset({"kube_api_burst"}))
    assert (settings.kubeconfig, settings.rate, settings.elect) == (
        "/etc/scheduler.conf",
        100,
        False,
    )
    assert (settings.times.lease, settings.lease_name) == (20, "mine")
    assert settings.burst == Settings("x").burst
    bench = Bench(one)
    packer = bench.scheduler._profiles["packer"]
    assert [(plugin.name, weight) for plugin, weight in packer.scores] == [("NodeResourcesFit", 1)]
    assert not packer.preempts
    assert "PodTopologySpread" not in [plugin.name for plugin in packer.filters]
    bench.nodes(*nodes("a", "b"))
    bench.put(PODS, pod("other", on="a", cpu="2"))
    for name, scheduler in (("packed", "packer"), ("spread", "default-scheduler"), ("x", "other")):
        bench.put(PODS, pod(name, schedulerName=scheduler, cpu="1"))
    bench.place()
    assert bench.given == {"packed": "a", "spread": "b"}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"profile": []}, "no such field of KubeSchedulerConfiguration: profile"),
        ({"leaderElection": {"leader": True}}, "no such field of leaderElection: leader"),
        ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Expected `int` <= 100"),
        ({"podMaxBackoffSeconds": 1, "podInitialBackoffSeconds": 2}, "podMaxBackoffSeconds"),
        ({"extenders": [{"urlPrefix": "http://x"}]}, "extenders: this scheduler has none"),
        (profile(schedulerName="x", pluginConfig=[{"name": "Nope"}]), "'Nope' has no arguments"),
        (profile(pluginConfig=[{"name": "InterPodAffinity", "args": {"x": 1}}]),
         "profiles[0].pluginConfig[0].args: no such field of InterPodAffinityArgs: x"),
        (profile(pluginConfig=[{"name": "NodeResourcesFit",
                                "args": {"scoringStrategy": {"type": "Worst"}}}]),
         "scoringStrategy.type: must be of"),
        ({"profiles": [{"schedulerName": "x"}, {"schedulerName": "x"}]}, "'x' is there twice"),
        ({"profiles": [{"schedulerName": "x"}, {}]}, "profiles[1].schedulerName: must be there"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_named(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode(document)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        ({"score": {"enabled": [{"name": "Mine"}]}}, "there is no plugin 'Mine'"),
        ({"bind": {"disabled": [{"name": "DefaultBinder"}]}}, "DefaultBinder is the only one"),
        ({"queueSort": {"disabled": [{"name": "*"}]}}, "PrioritySort is the only one"),
    ],
)
def test_plugins_must_be_there(plugins: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(decode(profile(plugins=plugins)))
    assert words in str(caught.value)


def test_a_wrong_file_ends_the_command_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.yaml"
    path.write_text(FILE.replace("parallelism", "parallel"))
    result = click.testing.CliRunner().invoke(main, [f"--config={path}"])
    assert result.exit_code == 1
    assert "no such field of KubeSchedulerConfiguration: parallel" in result.output


def given(document: dict[str, Any], *values: Any) -> Bench:
    bench = Bench(decode(document))
    bench.nodes(*values)
    return bench


def test_a_filter_that_is_off_keeps_no_pod_away() -> None:
    plugins = {"filter": {"disabled": [{"name": "TaintToleration"}]}}
    bench = given(profile(plugins=plugins), node("a", taints=[TAINT]))
    bench.put(PODS, pod())
    bench.place()
    assert bench.given == {"subject": "a"}


def test_added_affinity_is_that_of_every_pod() -> None:
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["x"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    arguments = [{"name": "NodeAffinity", "args": {"addedAffinity": required}}]
    bench = given(profile(pluginConfig=arguments), node("a"), node("b", labels={"pool": "x"},
                                                               capacity=SMALL))  # fmt: skip
    bench.put(PODS, pod(cpu="9"))
    bench.put(PODS, pod("small"))
    bench.place()
    assert bench.given == {"small": "b"}
    assert "1 node(s) didn't match scheduler-enforced node affinity" in bench.told[0][1]


def test_a_curve_of_use_is_followed() -> None:
    shape = [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]
    strategy = {"type": "RequestedToCapacityRatio", "resources": [{"name": "cpu"}],
                "requestedToCapacityRatio": {"shape": shape}}  # fmt: skip
    document = profile(
        plugins={"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit"}]}},
        pluginConfig=[{"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}],
    )
    bench = given(document, *nodes("a", "b"))
    bench.put(PODS, pod("other", on="b", cpu="2"))
    bench.put(PODS, pod(cpu="1"))
    bench.place()
    assert bench.given == {"subject": "b"}


def test_devices_are_not_allocated_and_the_pod_is_told_so() -> None:
    bench = given({}, node("a"))
    bench.put(STORAGE_CLASSES, {"metadata": {"name": "x"}})
    bench.put(PODS, pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]))
    bench.place()
    assert "does not allocate devices" in bench.told[0][1]
    assert Configuration().parallelism == 16
