"""Every feature of Services, by packets: one table, in each mode, in both families."""

from __future__ import annotations

import pytest

from tests.support.proxylab.lab import Lab
from tests.support.proxylab.proxies import Settings

from .cases import check
from .conftest import MODES
from .services import everything

pytestmark = pytest.mark.root
ALL_MODES = [*MODES, pytest.param(Settings("iptables", "legacy"), id="iptables-legacy")]


@pytest.mark.parametrize("settings", ALL_MODES)
def test_all_features(lab: Lab, settings: Settings) -> None:
    scenario = everything()
    lab.reset(*scenario.objects)
    with lab.proxy(settings):
        check(lab, scenario, settings)
