"""Every feature of Services, by packets: one table, in each mode, in both families."""

from __future__ import annotations

import re

import pytest

from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import LOCAL
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import FAMILIES

from .cases import check
from .conftest import MODES
from .services import NOBODYS, everything

pytestmark = pytest.mark.root
ALL_MODES = [*MODES, pytest.param(Settings("iptables", "legacy"), id="iptables-legacy")]


@pytest.mark.parametrize("settings", ALL_MODES)
def test_all_features(lab: Lab, settings: Settings) -> None:
    scenario = everything()
    lab.reset(*scenario.objects)
    with lab.proxy(settings):
        check(lab, scenario, settings)
        rules = lab.rules()
        assert LOCAL[0].address(4) in rules
        assert not [family for family in FAMILIES if f"{NOBODYS.address(family)}:" in rules]
        assert not re.search(rf"\b{re.escape(NOBODYS.address(4))}\b", rules)
