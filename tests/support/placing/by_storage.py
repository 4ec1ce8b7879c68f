"""Situations about volumes: where they are, who has them, how many fit."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.engine.resources import CSI_NODES

from .objects import HOST, ZONE, Scenario, claim, nodes, pod, storage_class, uses, volume, zoned


def storage() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about volumes."""
    two = nodes("a", "b")
    mine = pod(volumes=uses("data"))
    yield "no claim", Scenario(two, mine)
    yield (
        "unbound immediate claim",
        Scenario(two, mine, [], [storage_class("fast", waits=False), claim("data", "fast")]),
    )
    yield (
        "bound to a node",
        Scenario(two, mine, [], [volume("v", of="data", nodes=("b",)), claim("data", volume="v")]),
    )
    yield (
        "bound to a node that is not there",
        Scenario(two, mine, [], [volume("v", of="data", nodes=("z",)), claim("data", volume="v")]),
    )
    yield "volume gone", Scenario(two, mine, [], [claim("data", volume="v")])
    yield "ephemeral claim missing", Scenario(
        two,
        pod(volumes=[{"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]),
    )  # fmt: skip
    manual = storage_class("manual", provisioner="kubernetes.io/no-provisioner")
    yield "nothing to bind", Scenario(two, mine, [], [manual, claim("data", "manual")])
    yield (
        "nothing large enough to bind",
        Scenario(
            two, mine, [], [manual, claim("data", "manual", size="5Gi"), volume("v", "manual")]
        ),
    )
    yield "zone of a volume", Scenario(
        zoned(a="1", b="2"), mine, [],
        [volume("v", of="data", labels={ZONE: "2"}), claim("data", volume="v")],
    )  # fmt: skip
    yield "zone of a volume, full", Scenario(
        zoned(a="1", b="2"), pod(volumes=uses("data"), cpu="9"), [],
        [volume("v", of="data", labels={ZONE: "2"}), claim("data", volume="v")],
    )  # fmt: skip
    once = claim("data", volume="v", modes=["ReadWriteOncePod"])
    yield (
        "used by another pod",
        Scenario(
            two, mine, [pod("other", on="a", volumes=uses("data"))], [volume("v", of="data"), once]
        ),
    )
    topology = [{"matchLabelExpressions": [{"key": HOST, "values": ["z"]}]}]
    yield (
        "class for other nodes",
        Scenario(
            two,
            mine,
            [],
            [storage_class("fast", allowedTopologies=topology), claim("data", "fast")],
        ),
    )
    csi = {"csi": {"driver": "csi.example.test", "volumeHandle": "h1"}}
    more = {"csi": {"driver": "csi.example.test", "volumeHandle": "h2"}}
    limit = (CSI_NODES, {
        "metadata": {"name": "a"},
        "spec": {"drivers": [{"name": "csi.example.test", "nodeID": "a", "topologyKeys": [],
                              "allocatable": {"count": 1}}]},
    })  # fmt: skip
    yield "too many volumes", Scenario(
        nodes("a"), pod(volumes=uses("data")), [pod("other", on="a", volumes=uses("old"))],
        [limit, volume("v", of="data", source=csi), claim("data", volume="v"),
         volume("w", of="old", source=more), claim("old", volume="w")],
    )  # fmt: skip
    yield "the same volume again", Scenario(
        nodes("a"), pod(volumes=uses("data")), [pod("other", on="a", volumes=uses("data"))],
        [limit, volume("v", of="data", source=csi), claim("data", volume="v")],
    )  # fmt: skip
