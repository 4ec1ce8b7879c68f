from __future__ import annotations

import subprocess
import sys

import pytest

from kubeletpy_common.lean import without_init


def test_the_runtime_loads_a_part_of_pyroute2_only_and_others_may_have_it_whole() -> None:
    script = """
import sys
import kubeletpy_common.netlink
assert "pyroute2.netlink.rtnl.rtmsg" in sys.modules
assert "pyroute2.ndb" not in sys.modules
assert "pyroute2" not in sys.modules
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2 import IPRoute
assert kubeletpy_common.netlink.rtmsg is rtmsg
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_package_that_is_not_there() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_package"),
        without_init("no_such_package"),
    ):
        pass


def test_a_package_that_is_loaded_already_stays() -> None:
    loaded = sys.modules["pytest"]
    with without_init("pytest"):
        assert sys.modules["pytest"] is loaded
    assert sys.modules["pytest"] is loaded
