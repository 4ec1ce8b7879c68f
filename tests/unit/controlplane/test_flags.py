"""The command line of the API server."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from controlplane import __main__ as command
from controlplane.options import Options


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options that it is started with."""
    found: list[Options] = []

    async def run(options: Options) -> None:
        found.append(options)

    monkeypatch.setattr(command, "_run", run)
    return found


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("--bind-address=::", "bind_address", "::"),
        ("--advertise-address=10.0.0.1", "advertise_address", "10.0.0.1"),
        ("--secure-port=0", "secure_port", 0),
        (
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "service_ranges",
            ("10.96.0.0/16", "fd00:10:96::/112"),
        ),
        ("--service-node-port-range=30000-30100", "node_ports", (30000, 30100)),
        ("--service-node-port-range=30000+100", "node_ports", (30000, 30100)),
        ("--service-account-issuer=https://issuer.example", "issuer", "https://issuer.example"),
        (
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            "kubelet_preferred_address_types",
            ("InternalIP", "Hostname"),
        ),
        ("--etcd-servers=http://a:1,http://b:2", "etcd_servers", ("http://a:1", "http://b:2")),
        ("--event-ttl=30m", "event_ttl", 1800),
    ],
)
def test_flags_are_taken(started: list[Options], flag: str, name: str, value: Any) -> None:
    done = CliRunner().invoke(command.main, [flag])
    assert done.exit_code == 0, done.output
    assert getattr(started[0], name) == value


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--bind-address=localhost", "'localhost' is no IP address"),
        ("--secure-port=65536", "65536 is not in the range"),
        ("--service-cluster-ip-range=10.96.0.1/16", "has host bits set"),
        ("--service-cluster-ip-range=10.0.0.0/16,10.1.0.0/16", "one network of each family"),
        ("--service-cluster-ip-range=10.0.0.0/30", "fewer than 8 addresses"),
        ("--service-node-port-range=0-1", "no range of ports"),
        ("--service-node-port-range=9-8", "no range of ports"),
        ("--service-node-port-range=1+65535", "no range of ports"),
        ("--service-account-issuer=http://issuer", "no https URL"),
        ("--kubelet-preferred-address-types=Any", "Any: known are Hostname, InternalDNS"),
        ("--kubelet-certificate-authority=/no/such/file", "does not exist"),
        ("--kubelet-client-certificate=/dev/null", "needs --kubelet-client-key"),
        ("--event-ttl=soon", "no duration"),
        ("--v=many", "not a valid integer"),
        ("--unknown=1", "No such option"),
    ],
)
def test_bad_values_are_named(started: list[Options], flag: str, message: str) -> None:
    done = CliRunner().invoke(command.main, [flag])
    assert done.exit_code == 2
    assert message in done.output
    assert started == []


def test_help_tells_of_every_flag() -> None:
    done = CliRunner().invoke(command.main, ["--help"])
    assert done.exit_code == 0
    for parameter in command.main.params:
        assert getattr(parameter, "help", "an argument"), parameter.name
        assert parameter.opts[0] in done.output
