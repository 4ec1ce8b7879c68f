"""The laboratory, once for all tests of the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.machine import Allowances
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.proxies import Proxy, Settings

MODES = [
    pytest.param(Settings("nftables"), id="nftables"),
    pytest.param(Settings("iptables"), id="iptables-nft"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances) -> Iterator[Lab]:
    """Hosts, endpoints that answer, an API server."""
    with Lab.built(tmp_path_factory.mktemp("lab")) as built:
        machine_allowances.allow("processes", "tests.support.proxylab.answers")
        yield built


@pytest.fixture(scope="module", params=MODES)
def proxied(
    request: pytest.FixtureRequest, lab: Lab, machine_allowances: Allowances
) -> Iterator[Proxy]:
    """A proxy for all tests of a module, in each mode; a test makes Services of its own."""
    lab.reset()
    with lab.proxy(request.param) as started:
        for part in ("kube-proxy", "-m proxy", "-m\\x00proxy"):
            machine_allowances.allow("processes", part)
        yield started
        assert started.alive(), started.tail()
