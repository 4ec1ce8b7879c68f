from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeletpy.up import cluster_tour
from kubeletpy.up.commands import Commands
from kubeletpy.up.layout import Layout
from kubeletpy.up.objects import dns_objects, is_ready, path_of


def commands(monkeypatch: pytest.MonkeyPatch, *, nginx: bool = False) -> Commands:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/sbin/nginx" if nginx else None)
    monkeypatch.setattr("kubeletpy.up.commands.is_free", lambda port: True)
    return Commands(Layout(Path("/d"), Path("/r")), 0, 0)


def test_ports_that_were_asked_for_are_used_and_all_others_differ() -> None:
    made = Commands(Layout(Path("/d"), Path("/r")), 5000, 6443)
    assert (made.registry_port, made.api_port) == (5000, 6443)
    ports = {made.kubelet_port, made.kubelet_api_port, made.dns_port}
    of_proxy = [word.rpartition(":")[2] for word in made.proxy() if "-bind-address=127" in word]
    assert len(of_proxy) == 2
    assert len(ports | set(map(int, of_proxy)) | {5000, 6443}) == 7


def test_the_name_server_is_where_the_service_leads() -> None:
    service, slice_ = dns_objects(1053)
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert "selector" not in service["spec"]
    labels = slice_["metadata"]["labels"]
    assert labels["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert slice_["endpoints"][0]["addresses"] == ["10.88.0.1"]
    names = [(one["name"], one["protocol"]) for one in service["spec"]["ports"]]
    assert names == [(one["name"], one["protocol"]) for one in slice_["ports"]]
    assert {one["port"] for one in slice_["ports"]} == {1053}
    assert path_of(slice_) == (
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-node"
    )


def test_pods_ask_our_name_server_and_reach_the_api_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = commands(monkeypatch)
    assert made.kubelet_settings()["clusterDNS"] == ["10.96.0.10"]
    assert made.kubelet_settings()["clusterDomain"] == "cluster.local"
    api = made.apiserver()
    assert api[api.index("--advertise-address") + 1] == "10.88.0.1"
    assert api[api.index("--extra-bind-address") + 1] == "10.88.0.1"
    dns = made.dns()
    assert dns[dns.index("--bind-address") + 1] == "10.88.0.1"
    assert dns[dns.index("--port") + 1] == str(made.dns_port)
    assert "--pod-bridge-interface=kubeletpy0" in made.proxy()


@pytest.mark.parametrize("nginx", [False, True])
def test_ingresses_are_served_where_there_is_an_nginx(
    monkeypatch: pytest.MonkeyPatch, nginx: bool
) -> None:
    made = commands(monkeypatch, nginx=nginx)
    assert made.ingress is nginx
    assert any("ingress-controller" in word for word in made.controllers()) is nginx
    assert any("*,scheduler" in word for word in made.controllers())


@pytest.mark.parametrize(
    ("conditions", "meta", "ready"),
    [
        ([], {}, False),
        ([{"type": "Ready", "status": "False"}], {}, False),
        ([{"type": "Ready", "status": "True"}], {}, True),
        ([{"type": "Ready", "status": "True"}], {"deletionTimestamp": "now"}, False),
    ],
)
def test_which_pods_serve(
    conditions: list[dict[str, str]], meta: dict[str, Any], ready: bool
) -> None:
    assert is_ready({"metadata": meta, "status": {"conditions": conditions}}) is ready


def test_the_example_is_what_the_tour_takes_it_for() -> None:
    found = list(yaml.safe_load_all(cluster_tour.MANIFEST.read_text()))
    assert [one["kind"] for one in found] == ["Deployment", "Service"]
    deployment, service = found
    assert deployment["spec"]["replicas"] < cluster_tour._SCALED
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert cluster_tour._NAME.startswith(f"{service['metadata']['name']}.default.svc.")
    text = cluster_tour.MANIFEST.read_text()
    assert "127.0.0.1:5000/" in text
