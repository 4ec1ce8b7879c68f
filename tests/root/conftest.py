"""For privileged tests: the machine has what they need, and each leaves it as it was."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final, Protocol, runtime_checkable

import pytest

from tests.support import preflight
from tests.support.machine import Allowances, MachineState, Scope, report

_LOG: Final = 6000


@runtime_checkable
class Logging(Protocol):
    """A fixture that runs a daemon."""

    def log(self) -> str:
        """Return what it logged."""


@pytest.fixture(scope="session", autouse=True)
def privileged_machine() -> None:
    """End the whole run, with one line, when this machine cannot run privileged tests."""
    problem = next(preflight.problems(), None)
    if problem:
        pytest.exit(f"cannot run the root tests: {problem}", returncode=1)


@pytest.fixture(scope="module")
def machine_scope() -> Scope:
    """What is compared; a module overrides it to name directories or links of its own."""
    return Scope.of_environment()


@pytest.fixture(scope="module", autouse=True)
def machine_allowances(
    request: pytest.FixtureRequest, privileged_machine: None, machine_scope: Scope
) -> Iterator[Allowances]:
    """Compare the machine before and after the module, its module-wide fixtures included.

    Gives the list in which such a fixture says what it may keep from one test to the next.
    """
    before = MachineState.capture(machine_scope)
    yield Allowances()
    # Nothing may be kept beyond the module, so what was allowed to its tests is not asked here.
    _check(before, None, request.node.name)


@pytest.fixture(autouse=True)
def machine(
    request: pytest.FixtureRequest, machine_allowances: Allowances, machine_scope: Scope
) -> Iterator[MachineState]:
    """Compare the machine before and after each test.

    Being the first fixture of a test's own, it starts after all longer-lived ones and ends last.
    """
    # What was seen after the last test is what there is before this one, unless a fixture that
    # lives longer than a test came between: a look takes as long as many a test.
    before = _seen.pop("state", None) or MachineState.capture(machine_scope)
    yield before
    _seen["state"] = _check(before, machine_allowances, request.node.name)


_seen: dict[str, MachineState] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """Forget what was seen of the machine when something is made that stays."""
    if fixturedef.scope != "function":
        _seen.clear()


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[object]) -> None:
    """Forget it, too, when something like that is taken away."""
    if fixturedef.scope != "function":
        _seen.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what its daemons logged last."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, value in item.funcargs.items():
            daemon = getattr(value, "daemon", value)
            if isinstance(daemon, Logging):
                report.sections.append((f"end of the log of {name}", daemon.log()[-_LOG:]))
    return report


def _check(before: MachineState, allowances: Allowances | None, where: str) -> MachineState:
    leaks, now = before.settled(allowances)
    if leaks:
        pytest.fail(report(leaks, where), pytrace=False)
    return now
