"""A command that fails: what was good stays good, and everybody is told."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.proxylab.clients import ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import LOCAL, Json, service, slices
from tests.support.proxylab.proxies import Settings, deadline, tools_directory
from tests.support.proxylab.topology import FAMILIES

pytestmark = pytest.mark.root


def answering(lab: Lab, thing: Json) -> set[str]:
    """Return who answers a pod at the cluster IPs."""
    addresses = thing["spec"]["clusterIPs"]
    return {asyncio.run(ask(lab.hosts["pod"], each, 80, patience=1)).who for each in addresses}


@pytest.mark.parametrize("tools", ["nft", "legacy"])
def test_a_command_that_fails_leaves_the_last_good_rules(
    lab: Lab, tools: str, tmp_path: Path
) -> None:
    settings = Settings("iptables", tools)
    steady, late = service("steady", number=190), service("late", number=191)
    lab.reset(steady, *slices("steady", LOCAL[:1]))
    directory = tools_directory(lab.directory, tools)
    with lab.proxy(settings) as proxy:
        failures = "kubeproxy_sync_proxy_rules_iptables_restore_failures_total"
        before = proxy.metric(failures)
        broken = {path: _broken(path) for path in directory.glob("*-restore")}
        assert len(broken) == 4
        try:
            lab.api.put(late, *slices("late", LOCAL[1:2]))
            with deadline(10, "the failure is counted") as turn:
                while proxy.metric(failures) <= before:
                    turn(proxy.tail(1000))
            assert answering(lab, steady) == {LOCAL[0].answers(f) for f in FAMILIES}
            # The command names a line; the error, the rule.
            if not settings.peer:
                with deadline(5, "the error names the rule") as turn:
                    while not re.search(r"line \d+ is: -A KUBE-.*", proxy.tail()):
                        turn(proxy.tail())
        finally:
            for path, target in broken.items():
                path.unlink()
                path.symlink_to(target)
        # Nothing more has to change for the next attempt.
        with deadline(40, "it is tried again") as turn:
            while answering(lab, late) != {LOCAL[1].answers(f) for f in FAMILIES}:
                turn(proxy.tail(1000))


def _broken(path: Path) -> Path:
    """Have a restore fail at a rule in the middle, as the real one says it; return the real one."""
    real = path.readlink()
    path.unlink()
    path.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do [ "$word" != --version ] || exec '
        f"{real} --version; done\n"
        # What is before the first rule is read, then that one is refused.
        "read=$(mktemp); sed '/^-A/s/-j .*/--no-such-option/' >$read; exec <$read; rm $read\n"
        f'exec {real} "$@"\n'
    )
    path.chmod(0o755)
    return real
