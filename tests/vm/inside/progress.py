"""What the long form has pytest do: an order, limits of time, and figures by folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence

import pytest

from tests.vm.inside.chosen import place


class Progress:
    """A plug-in of pytest.

    Args:
        order: files and folders, in whose order tests run.
        seconds: after which tests end, the one that runs too.
        test_seconds: the limit of one test, whatever it says itself.
    """

    def __init__(self, order: Sequence[str], seconds: float, test_seconds: float) -> None:
        self._order = order
        self._deadline = time.monotonic() + seconds
        self._test_seconds = test_seconds
        self.results: dict[str, str] = {}
        self.chosen: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests."""
        items.sort(key=lambda item: place(item.nodeid, self._order))
        self.chosen = [item.nodeid for item in items]

    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Limit a test, to what is left of the whole time at most."""
        limit = min(self._test_seconds, self._deadline - time.monotonic())
        # The nearest mark counts, which is the first one.
        item.add_marker(pytest.mark.timeout(max(limit, 1.0)), append=False)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test went; one that passes may still fail when it is taken down."""
        if report.failed:
            self.results[report.nodeid] = "failed"
        elif report.when == "call" or report.skipped:
            self.results.setdefault(report.nodeid, report.outcome)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Keep what a run is ended by."""
        self._session = session

    def pytest_runtest_logfinish(self) -> None:
        """End the run when its time is over, before the machine's is."""
        if time.monotonic() > self._deadline:
            self._session.shouldstop = "the time is over"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the figures."""
        terminalreporter.section("by folder")
        for line in by_folder(self.chosen, self.results):
            terminalreporter.write_line(line)


def by_folder(chosen: Sequence[str], results: dict[str, str]) -> list[str]:
    """Return a line for each folder: how many tests passed, failed, or were not run (pure)."""
    folders: dict[str, Counter[str]] = {}
    for nodeid in chosen:
        folder = nodeid.partition("::")[0].rpartition("/")[0]
        folders.setdefault(folder, Counter())[results.get(nodeid, "not run")] += 1
    total = sum(folders.values(), Counter())
    words = ("passed", "failed", "skipped", "not run")
    return [
        f"{folder:40} " + ", ".join(f"{count[word]} {word}" for word in words if count[word])
        for folder, count in [*folders.items(), ("all", total)]
    ]
