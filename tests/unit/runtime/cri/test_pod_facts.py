"""What a sandbox request tells the network."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.cri.pod_facts import EGRESS_BANDWIDTH, INGRESS_BANDWIDTH, pod_facts
from runtime.network.request import Bandwidth, PodFacts, PortMapping, Protocol


def facts(**fields: Any) -> PodFacts:
    return pod_facts(cri.PodSandboxConfig(**fields))


def mapping(**fields: Any) -> dict[str, Any]:
    return {"port_mappings": [cri.PortMapping(**fields)]}


MAPPED = "::ffff:1.2.3.4"


def test_port_mappings() -> None:
    assert facts(
        port_mappings=[
            cri.PortMapping(container_port=80, host_port=8080),
            cri.PortMapping(container_port=53, host_port=53, protocol=cri.UDP, host_ip="0:0::1:0"),
            cri.PortMapping(container_port=9, host_port=9, protocol=cri.SCTP, host_ip=MAPPED),
            cri.PortMapping(container_port=81),
        ]
    ).ports == (
        PortMapping(Protocol.TCP, 8080, 80),
        PortMapping(Protocol.UDP, 53, 53, "::1:0"),
        PortMapping(Protocol.SCTP, 9, 9, "1.2.3.4"),
    )  # fmt: skip


def test_bandwidth() -> None:
    annotations = {INGRESS_BANDWIDTH: "10M", EGRESS_BANDWIDTH: "1.5Ki"}
    assert facts(annotations=annotations).bandwidth == Bandwidth(10_000_000, 1536)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (mapping(host_port=80), "container port 0"),
        (mapping(host_port=70000, container_port=80), "host port 70000"),
        (mapping(host_port=80, container_port=80, host_ip="localhost"), "localhost"),
        (mapping(host_port=80, container_port=80, host_ip="::1"), "cannot forward"),
        (mapping(host_port=80, container_port=80, protocol=7), "protocol 7"),
        ({"annotations": {INGRESS_BANDWIDTH: "fast"}}, "fast"),
        ({"annotations": {EGRESS_BANDWIDTH: "1"}}, "within 1k and 1P"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        facts(**fields)
