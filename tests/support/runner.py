"""What ``tests/run`` does: linters, unit tests, root tests, on a machine that it gets ready itself.

Standard library only: it starts on the bare interpreter of a fresh machine.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from kubeletpy import bootstrap, debian
from kubeletpy.console import say
from tests.support import preflight
from tests.support.circumstances import ASIDE_VARIABLE, THOROUGH_VARIABLE
from tests.support.pythons import find_python
from tests.vm import systems
from tests.vm.image import PACKAGES as MACHINE_PACKAGES

CHECKOUT = bootstrap.CHECKOUT
OTHER_PYTHON = "3.13"
_EXTRAS = ("dev",)
_BRIEF = {
    "KUBELETPY_KILL_ROUNDS": "50",
    "KUBELETPY_MANY_PODS": "500",
    "KUBELETPY_RESTART_ROUNDS": "5",
    "KUBELETPY_STORE_KILL_ROUNDS": "50",
}
"""Rounds of the longest tests; with ``--long`` or alone they do two to four times as many."""
_THOROUGH = {THOROUGH_VARIABLE: "1"}
_IDLE = ("chrt", "--idle", "0")
_OWN_NETWORK = (
    "sh", "-c",
    "ip link set lo up && ip link add outside type bridge && ip link set outside up && "
    "ip address add 192.0.2.10/24 dev outside && ip route add default via 192.0.2.1 && "
    'exec "$@"',
    "aside",
)  # fmt: skip
_ASIDE = ("unshare", "--net", "--", *_OWN_NETWORK, *_IDLE)
"""Runs a command where it takes nothing of the other tests: neither time nor ports."""
_APART = ("unshare", "--net", "--mount", "--", *_OWN_NETWORK, "nice", "-n", "5")
"""The same for tests that are about time: they yield, but not to everything.

Mounts are their own, too. It starts with the others: a later copy of the mounts would keep some
that those think are gone.
"""
_ROOT_APART = ("tests/root/proxy", "tests/root/controlplane")
"""Root tests that need nothing of the machine but namespaces that they make, files and loopback."""
_MACHINE_TITLE = "cgroup v2 and systemd, in a virtual machine"
_MACHINE_ASIDE_SECONDS = 1500
_MEMORY = "/dev/shm"
_ROOM = 2 << 30
_FORGETFUL = ("-o", "tmp_path_retention_policy=failed")
"""Files of a test that passed go at once."""
_STOP_SECONDS = 60.0  # what a test run gets to take down its fixtures, when its time is over


@dataclass(frozen=True)
class Step:
    """One command of the run.

    Attributes:
        title: what a person reads.
        command: program and arguments.
        limit: seconds after which it counts as hung.
        environment: variables besides those of the caller.
        online: beside another step, it keeps the machine's network.
    """

    title: str
    command: tuple[str, ...]
    limit: float
    environment: dict[str, str] = field(default_factory=dict)
    online: bool = False

    def start(self, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start the command, with its output on ours or in a file."""
        environment = {**os.environ, **self.environment}
        # Hundreds of daemons are started: each would compile all its modules again.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return subprocess.Popen(
            self.command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
        )  # fmt: skip

    def run(self) -> list[str]:
        """Run the command with its output on ours; return its title if it failed, or took long."""
        say(f"\n== {self.title}")
        return [] if self.finish(self.start(), time.monotonic()) else [self.title]

    def finish(self, process: subprocess.Popen[bytes], begun: float) -> bool:
        """Wait for the command that was started at ``begun``; return whether it succeeded."""
        try:
            process.wait(max(begun + self.limit - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            say(f"tests/run: {self.title} took over {self.limit:.0f} s and is ended")
            _end(process)
            return False
        except KeyboardInterrupt:
            # The terminal sent the signal to the child too.
            _end(process)
            raise
        if process.returncode != 0:
            spent = time.monotonic() - begun
            say(f"tests/run: {self.title} failed (exit {process.returncode}, {spent:.0f} s)")
        return process.returncode == 0


@dataclass(frozen=True)
class Beside:
    """Steps that run with what another one leaves of the machine; it goes first in all things.

    Most of the tests against the real kernel wait for processes, disks and clocks.

    Attributes:
        steps: one after the other, on cores that are idle.
        apart: beside those, with a little less right to the cores than `main`.
        main: the one whose output is seen as it comes; those of the others come after it.
    """

    steps: tuple[Step, ...]
    apart: Step
    main: Step

    def run(self) -> list[str]:
        """Run all; return the titles of those that failed."""
        with ThreadPoolExecutor(2) as beside:
            idle = [_moved(step, _IDLE if step.online else _ASIDE) for step in self.steps]
            apart = _moved(self.apart, _APART)
            running = [beside.submit(_run_quietly, steps) for steps in ([apart], idle)]
            failed = self.main.run()
            for each in running:
                for step, passed, text in each.result():
                    say(f"\n== {step.title}\n{text}")
                    failed += [] if passed else [step.title]
        return failed


@dataclass(frozen=True)
class Together:
    """Steps that run at the same time; the output of each is seen when it is done."""

    steps: tuple[Step, ...]

    def run(self) -> list[str]:
        """Run all; return the titles of those that failed."""
        failed = []
        with ThreadPoolExecutor(len(self.steps)) as pool:
            for done in as_completed([pool.submit(_run_quietly, [one]) for one in self.steps]):
                for step, passed, text in done.result():
                    say(f"\n== {step.title}\n{text}")
                    failed += [] if passed else [step.title]
        return failed


def _run_quietly(steps: Sequence[Step]) -> list[tuple[Step, bool, str]]:
    found = []
    for step in steps:
        with tempfile.TemporaryFile() as output:
            passed = step.finish(step.start(output), time.monotonic())
            output.seek(0)
            found.append((step, passed, output.read().decode(errors="replace")))
    return found


def _moved(step: Step, prefix: Sequence[str]) -> Step:
    environment = {**step.environment, ASIDE_VARIABLE: "1"}
    return replace(step, command=(*prefix, *step.command), environment=environment)


def main(arguments: Sequence[str]) -> int:
    """Run the checks; return the exit code.

    Every step runs, whatever the ones before it found, so that one run tells all; the end of the
    output when all is well is the summary line of a pytest run.
    """
    parsed = _parsed(arguments)
    try:
        steps: Iterable[Step | Beside | Together] = (
            _prepare_machine(parsed.brief) if parsed.vm else _prepare(parsed.fast, parsed.long)
        )
        failed = [title for step in steps for title in step.run()]
    except bootstrap.BootstrapError as error:
        say(f"tests/run: {error}")
        return 1
    except KeyboardInterrupt:
        say("tests/run: interrupted")
        return 130
    if failed:
        say(f"tests/run: FAILED: {'; '.join(failed)}")
    return 1 if failed else 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/run",
        description="Installs what the tests need, then runs linters, unit tests (also on Python "
        f"{OTHER_PYTHON}, where there is one) and, as root, the tests against the real kernel.",
    )
    parser.add_argument(
        "--fast", action="store_true",
        help="linters and the fast unit tests only, on one Python, few examples of properties; "
        "needs no root",
    )  # fmt: skip
    parser.add_argument(
        "--long", action="store_true", help="daemons are killed four times as often; minutes more"
    )
    parser.add_argument(
        "--vm", action="store_true", help="only the tests in a virtual machine (cgroup v2, systemd)"
    )
    parser.add_argument(
        "--brief", action="store_true", help="with --vm: the essence of them, in minutes"
    )
    parsed = parser.parse_args(arguments)
    if parsed.brief and not parsed.vm:
        parser.error("--brief is a form of --vm")
    return parsed


def _prepare(fast: bool, long: bool) -> Iterator[Step | Beside | Together]:
    """Get the machine ready and give the steps, each when what it needs is there.

    Raises:
        BootstrapError: the machine lacks something; the message is one line.
    """
    if not fast:
        if os.geteuid() != 0:
            raise bootstrap.BootstrapError(
                "the tests need root: start `sudo tests/run`, or `tests/run --fast` for those "
                "that do not"
            )
        bootstrap.ensure_packages((*debian.TESTS, debian.SYSTEMD, *MACHINE_PACKAGES))
        problem = next(preflight.problems(), None)
        if problem:
            raise bootstrap.BootstrapError(f"this machine cannot run the root tests: {problem}")
    python = bootstrap.ensure_environment(_EXTRAS).python
    with ThreadPoolExecutor(2) as beside:
        # Linters leave a core idle for a minute, which is what the second environment takes.
        making = None if fast else beside.submit(_other_environment)
        packages = beside.submit(bootstrap.ensure_packages, () if fast else debian.VAGRANT)
        beside.submit(_compile, python)
        yield from _linters(python.parent)
        other = None if making is None else making.result()
        packages.result()
    yield _fast_tests(python)
    if fast:
        return
    others = [
        _pytest("tests with an API server", python, ("tests/cluster",), 1200),
        _pytest("tests of vagrant/", python, ("tests/vagrant",), 600),
        _pytest("slow unit tests, all examples", python, _slow_tests(), 600, _THOROUGH),
    ]
    if other is not None:
        title = f"unit tests on Python {OTHER_PYTHON}, the slow ones and all examples too"
        others.append(_pytest(title, other.python, ("tests/unit",), 1200, _THOROUGH))
    others += _virtual_machine_aside(python)
    rounds = {} if long else {key: os.environ.get(key, text) for key, text in _BRIEF.items()}
    yield Beside(
        tuple(others),
        _root_tests("root tests that share nothing", python, _ROOT_APART, rounds),
        _root_tests(
            "root tests",
            python,
            ("tests/root", *(f"--ignore={folder}" for folder in _ROOT_APART)),
            {"KUBELETPY_TESTS_ALONE": "1", **rounds},
        ),
    )


def _prepare_machine(brief: bool) -> list[Step]:
    if os.geteuid() != 0:
        raise bootstrap.BootstrapError("the virtual machine's disk needs root: use sudo")
    python = bootstrap.ensure_environment(_EXTRAS).python
    arguments, limit = (("--brief",), 1500) if brief else ((), 5400)
    return [Step(_MACHINE_TITLE, (str(python), "-m", "tests.vm", *arguments), limit)]


def _virtual_machine_aside(python: Path) -> list[Step]:
    """Return the steps of the brief form, with what others leave; a line says why there is none."""
    try:
        systems.chosen()
    except systems.ImageError as error:
        say(f"tests/run: the tests in a virtual machine are not run: {error}")
        return []
    command = (str(python), "-m", "tests.vm")
    run = (*command, "--brief", "--seconds", str(_MACHINE_ASIDE_SECONDS))
    return [
        # Its packages come from apt's mirror.
        Step("disk of the virtual machine", (*command, "--make"), 1500, online=True),
        Step(_MACHINE_TITLE, run, _MACHINE_ASIDE_SECONDS + 200),
    ]


def _linters(programs: Path) -> list[Step]:
    return [
        Step("ruff check", (f"{programs}/ruff", "check", ".", "tests/run"), 60),
        Step("ruff format", (f"{programs}/ruff", "format", "--check", ".", "tests/run"), 60),
        Step("mypy", (f"{programs}/mypy",), 300),
        Step("lint-imports", (f"{programs}/lint-imports",), 60),
    ]


def _pytest(
    title: str,
    python: Path,
    arguments: Sequence[str],
    limit: float,
    environment: dict[str, str] | None = None,
) -> Step:
    # They share nothing, so that every core can take its part; root tests share the machine.
    # Neighbours share what was imported and made for their module: they stay together.
    command = (str(python), "-m", "pytest", *arguments, "-n", "auto", "--dist", "worksteal")
    quick = _files_in_memory()
    if quick:
        command += _FORGETFUL
    return Step(title, command, limit, {**quick, **(environment or {})})


def _fast_tests(python: Path) -> Together:
    """Return the unit tests in shares that run at the same time, one more than there are cores.

    With xdist each process would collect all of them, and tell each result to another one: four
    tenths of the time. The one more has what a core does while tests wait.
    """
    memory = _files_in_memory()
    arguments = ("-q", "-m", "not slow", *(_FORGETFUL if memory else ()))
    shares = _shares((os.cpu_count() or 1) + 1)
    steps = (
        Step(
            f"unit tests, share {number} of {len(shares)}",
            (str(python), "-m", "pytest", *arguments, *share), 300, memory,
        )
        for number, share in enumerate(shares, 1)
    )  # fmt: skip
    return Together(tuple(steps))


def _shares(count: int) -> list[list[str]]:
    """Return the files of unit tests in up to ``count`` shares.

    Neighbours, which import the same, stay together. The size of files tells how long they take.
    """
    files = sorted((CHECKOUT / "tests/unit").rglob("test_*.py"))
    whole, before = sum(path.stat().st_size for path in files) + 1, 0
    shares: list[list[str]] = [[] for _ in range(count)]
    for path in files:
        shares[before * count // whole].append(str(path.relative_to(CHECKOUT)))
        before += path.stat().st_size
    return [share for share in shares if share]


def _files_in_memory() -> dict[str, str]:
    """Return the variables by which pytest has temporary files in memory, where there is room.

    Databases that sync and deep trees take their time from a disk that others use too.
    """
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return {}
    roomy = found.f_bavail * found.f_frsize >= _ROOM and not found.f_flag & os.ST_NOEXEC
    return {"PYTEST_DEBUG_TEMPROOT": _MEMORY} if roomy and os.access(_MEMORY, os.W_OK) else {}


def _slow_tests() -> tuple[str, ...]:
    """Return the arguments that choose the tests which are slow or which Hypothesis feeds.

    Collecting all files takes longer than running these.
    """
    having = re.compile(r"pytest\.mark\.slow|from hypothesis ")
    files = sorted((CHECKOUT / "tests/unit").rglob("test_*.py"))
    users = (str(path.relative_to(CHECKOUT)) for path in files if having.search(path.read_text()))
    return ("-m", "slow or hypothesis", *users)


def _root_tests(
    title: str, python: Path, arguments: Sequence[str], environment: dict[str, str]
) -> Step:
    command = (str(python), "-m", "pytest", *arguments, "--durations=25")
    return Step(title, command, 1800, environment)


def _compile(python: Path) -> None:
    """Have pytest compile the tests, which in a new clone each worker would do for itself."""
    command = (str(python), "-m", "pytest", "--collect-only", "-qq", "tests/unit")
    step = Step("compiling the unit tests", (*_IDLE, *command), 120)
    with open(os.devnull, "wb") as nowhere:
        step.finish(step.start(nowhere), time.monotonic())


def _other_environment() -> bootstrap.Environment | None:
    """Return an environment with the second Python that we support, or say that there is none."""
    base = find_python(OTHER_PYTHON)
    if base is None:
        say(f"tests/run: no Python {OTHER_PYTHON} here: the unit tests are not run on it")
        return None
    environment = bootstrap.Environment(name=f".venv-{OTHER_PYTHON}", base=base)
    environment.ensure(_EXTRAS)
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt ``process``, so that pytest takes down its fixtures, and kill it if it does not."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
