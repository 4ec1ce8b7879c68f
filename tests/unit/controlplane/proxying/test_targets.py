"""Whom a request goes on to, and with what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import MultiDict

from controlplane.api.errors import ApiError
from controlplane.options import ADDRESS_TYPES
from controlplane.proxying import targets
from controlplane.proxying.headers import (
    answer_headers,
    is_upgrade,
    request_headers,
    rewrite_location,
)
from controlplane.proxying.parameters import log_parameters, port_parameters, stream_parameters
from controlplane.proxying.part import place_of

PODS = "/api/v1/namespaces/default/pods"
TWO: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "initContainers": [{"name": "first"}],
        "containers": [{"name": "server", "ports": [{"containerPort": 8080}]}, {"name": "log"}],
        "ephemeralContainers": [{"name": "debug"}],
    },
    "status": {"podIP": "10.1.2.3"},
}
ONE: dict[str, Any] = {**TWO, "spec": {"containers": [{"name": "server"}]}}


@pytest.mark.parametrize("name", ["first", "server", "log", "debug"])
def test_a_container_is_found_by_its_name(name: str) -> None:
    assert targets.container_of(TWO, name) == name


def test_the_only_container_needs_no_name() -> None:
    assert targets.container_of(ONE, "") == "server"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "",
            "a container name must be specified for pod web, choose one of: "
            "[first server log debug]",
        ),
        ("other", "container other is not valid for pod web"),
    ],
)
def test_other_containers_are_refused(asked: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        targets.container_of(TWO, asked)
    assert (refused.value.code, str(refused.value)) == (400, message)


@pytest.mark.parametrize(
    ("types", "found"),
    [(ADDRESS_TYPES, "one.example"), (("ExternalIP", "InternalIP"), "10.0.0.1")],
)
def test_a_kubelet_is_where_its_node_says(types: tuple[str, ...], found: str) -> None:
    addresses = [("InternalIP", "10.0.0.1"), ("Hostname", "one.example"), ("Hostname", "two")]
    listed = [{"type": kind, "address": address} for kind, address in addresses]
    node: dict[str, Any] = {"metadata": {"name": "n"}, "status": {"addresses": listed}}
    assert targets.kubelet_of(node, types).url == f"https://{found}:10250"
    node["status"]["daemonEndpoints"] = {"kubeletEndpoint": {"Port": 1234}}
    assert targets.kubelet_of(node, types).port == 1234
    with pytest.raises(ApiError, match=r"known addresses: \[InternalIP=10.0.0.1 Hostname=one"):
        targets.kubelet_of(node, ("ExternalDNS",))


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a", ("", "a", "")), ("a:1", ("", "a", "1")), ("https:a:web", ("https", "a", "web"))],
)
def test_names_of_proxies(text: str, parts: tuple[str, str, str]) -> None:
    named = targets.split_name(text, "pod")
    assert (named.scheme, named.name, named.port) == parts


@pytest.mark.parametrize("text", ["ftp:a:1", ":1", "a:b:c:d", "https::1"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ApiError, match="invalid pod request"):
        targets.split_name(text, "pod")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1",
     "ff02::1", "255.255.255.255", "::ffff:127.0.0.1", "", "localhost"],
)  # fmt: skip
def test_addresses_of_this_machine_alone_are_refused(address: str) -> None:
    with pytest.raises(ApiError, match="address not allowed"):
        targets.require_reachable(address)
    pod = {**TWO, "status": {"podIP": address}}
    with pytest.raises(ApiError, match="address not allowed"):
        targets.pod_target(pod, targets.Named("", "web", ""))


def test_a_pod_is_reached_by_its_first_port_or_the_one_asked_for() -> None:
    assert targets.pod_target(TWO, targets.Named("", "web", "")).url == "http://10.1.2.3:8080"
    assert targets.pod_target(TWO, targets.Named("https", "web", "9")).url == "https://10.1.2.3:9"
    assert targets.pod_target(ONE, targets.Named("", "web", "")).url == "http://10.1.2.3"
    six = {**ONE, "status": {"podIP": "fd00::1"}}
    assert targets.pod_target(six, targets.Named("", "web", "80")).url == "http://[fd00::1]:80"
    with pytest.raises(ApiError, match="no number from 1 to 65535"):
        targets.pod_target(TWO, targets.Named("", "web", "65536"))


SERVICE: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"ports": [{"name": "http", "port": 80}]},
}


class TestServices:
    def endpoints(self, **reference: str) -> dict[str, Any]:
        target = {"kind": "Pod", "namespace": "default", "name": "web", **reference}
        address = {"ip": "10.1.2.3", "targetRef": target}
        return {"subsets": [{"addresses": [address], "ports": [{"name": "http", "port": 8080}]}]}

    def target(self, endpoints: dict[str, Any] | None, port: str) -> str:
        named = targets.Named("", "web", port)
        return targets.service_target(SERVICE, endpoints, named, f"web:{port}").url

    @pytest.mark.parametrize("port", ["80", "http"])
    def test_an_endpoint_is_chosen(self, port: str) -> None:
        assert self.target(self.endpoints(), port) == "http://10.1.2.3:8080"

    def test_what_is_not_there_is_named(self) -> None:
        with pytest.raises(ApiError, match='no service port 81 found for service "web"'):
            self.target(self.endpoints(), "81")
        with pytest.raises(ApiError, match='no endpoints available for service "web"'):
            self.target(None, "80")
        with pytest.raises(ApiError, match='no endpoints available for service "web:other"'):
            self.target(self.endpoints(), "other")

    @pytest.mark.parametrize("reference", [{"namespace": "kube-system"}, {"kind": "Node"}])
    def test_endpoints_that_are_no_pods_of_it_are_not_gone_to(
        self, reference: dict[str, str]
    ) -> None:
        with pytest.raises(ApiError, match="no endpoints available"):
            self.target(self.endpoints(**reference), "80")


class TestParameters:
    def test_of_a_log(self) -> None:
        query = MultiDict(follow="", previous="false", timestamps="true", tailLines="5",
                          sinceTime="2026-01-02T03:04:05Z", limitBytes="9")  # fmt: skip
        assert dict(log_parameters(query, "web")) == {
            "follow": "true",
            "timestamps": "true",
            "sinceTime": "2026-01-02T03:04:05Z",
            "tailLines": "5",
            "limitBytes": "9",
            "stream": "All",
        }

    @pytest.mark.parametrize(
        ("query", "code", "message"),
        [
            ({"tailLines": "-1"}, 422, "tailLines: Invalid value: -1: must be greater than or"),
            ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
            ({"sinceSeconds": "0"}, 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
            (
                {"sinceSeconds": "1", "sinceTime": "2026-01-02T03:04:05Z"},
                422,
                "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            ({"stream": "Stdin"}, 422, 'stream: Unsupported value: "Stdin"'),
            ({"stream": "Stdout", "tailLines": "1"}, 422, "mutually exclusive"),
            ({"tailLines": "many"}, 400, 'parsing "many": invalid syntax'),
            ({"sinceTime": "yesterday"}, 400, "no time of RFC 3339"),
        ],
    )
    def test_impossible_ones_of_a_log(self, query: dict[str, str], code: int, message: str) -> None:
        with pytest.raises(ApiError) as refused:
            log_parameters(MultiDict(query), "web")
        assert refused.value.code == code
        assert message in json.dumps(refused.value.to_status(), ensure_ascii=False).replace(
            '\\"', '"'
        )

    def test_of_streams(self) -> None:
        query = MultiDict([("stdin", "true"), ("stdout", "1"), ("tty", "0"), ("command", "a b")])
        query.add("command", "-c")
        assert list(stream_parameters(query, "exec").items()) == [
            ("input", "1"),
            ("output", "1"),
            ("command", "a b"),
            ("command", "-c"),
        ]
        assert "command" not in stream_parameters(query, "attach")

    def test_of_ports(self) -> None:
        assert dict(port_parameters(MultiDict([("ports", "80,443"), ("ports", "1")]))) == {
            "port": "80,443,1"
        }
        with pytest.raises(ApiError):
            port_parameters(MultiDict(ports="0"))


class TestHeaders:
    def test_who_asks_stays_between_the_client_and_us(self) -> None:
        given = [
            ("Host", "api"),
            ("Authorization", "Bearer secret"),
            ("Impersonate-User", "admin"),
            ("X-Remote-User", "admin"),
            (
                "Sec-WebSocket-Protocol",
                "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2",
            ),
            ("X-Forwarded-For", "1.2.3.4"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
        ]
        assert request_headers(given, "5.6.7.8", upgrade=True) == [
            ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("X-Forwarded-For", "1.2.3.4, 5.6.7.8"),
        ]

    def test_what_is_of_one_connection_is_not_passed_on(self) -> None:
        given = [("Connection", "close, X-Mine"), ("X-Mine", "1"), ("TE", "trailers"), ("A", "b")]
        assert request_headers(given, "") == [("A", "b")]
        assert answer_headers([*given, ("Transfer-Encoding", "chunked")]) == [("A", "b")]

    def test_upgrades(self) -> None:
        assert is_upgrade([("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")])
        assert not is_upgrade([("upgrade", "SPDY/3.1")])
        assert not is_upgrade([("connection", "Upgrade")])

    @pytest.mark.parametrize(
        ("location", "rewritten"),
        [
            ("/login?a=b#c", "/p/proxy/login?a=b#c"),
            ("http://10.1.2.3:80/x", "/p/proxy/x"),
            ("http://elsewhere/x", "http://elsewhere/x"),
            ("next", "next"),
            ("/p/proxy/x", "/p/proxy/x"),
        ],
    )
    def test_redirects_lead_through_the_proxy_again(self, location: str, rewritten: str) -> None:
        assert rewrite_location(location, "/p/proxy", ("10.1.2.3:80", "api")) == rewritten


@pytest.mark.parametrize(
    ("path", "namespaced", "prefix", "rest"),
    [
        ("/api/v1/nodes/n/proxy", False, "/api/v1/nodes/n/proxy", ""),
        ("/api/v1/nodes/n/proxy/", False, "/api/v1/nodes/n/proxy", "/"),
        ("/api/v1/nodes/n/proxy//a%2Fb/", False, "/api/v1/nodes/n/proxy", "//a%2Fb/"),
        (f"{PODS}/p:80/proxy/x", True, f"{PODS}/p:80/proxy", "/x"),
    ],
)
def test_paths_go_on_as_they_came(path: str, namespaced: bool, prefix: str, rest: str) -> None:
    place = place_of(path, namespaced=namespaced)
    assert (place.prefix, place.path) == (prefix, rest)
