"""From a bare checkout to a working environment: Debian packages, ``.venv``, then exec into it.

Standard library only, and no import of anything else of this project than the two modules below:
on a fresh machine nothing more is there. The second time it costs one dpkg query and one hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubeletpy import debian
from kubeletpy.console import CommandFailed, run_shown

CHECKOUT = Path(__file__).resolve().parent.parent
_FORMAT = 1  # raise it to have every existing environment made anew
_STAMP_NAME = "kubeletpy-stamp.json"
_NETWORK_SIGNS = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "Failed to establish a new connection",
    "Connection refused",
    "Network is unreachable",
    "timed out",
    "Could not find a version",
)


class BootstrapError(Exception):
    """The environment cannot be made; the message is one line that says what to do."""


@dataclass(frozen=True)
class Stamp:
    """What a whole environment was made from.

    Attributes:
        made_from: hash of the inputs, see ``Environment._made_from``.
        interpreter: the real file behind the environment's ``python``; an upgrade changes it.
        extras: optional dependencies that are installed too, as named in pyproject.toml.
    """

    made_from: str
    interpreter: str
    extras: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Stamp | None:
        """Return the stamp in the file ``path``, or None if there is none that is whole."""
        try:
            found = json.loads(path.read_text())
            return cls(found["made_from"], found["interpreter"], frozenset(found["extras"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Put the stamp into the file ``path`` in one step."""
        content = {"made_from": self.made_from, "interpreter": self.interpreter}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**content, "extras": sorted(self.extras)}))
        temporary.rename(path)


class Environment:
    """The virtual environment of one checkout.

    Its stamp is the last file written and the first one removed, so an environment with a stamp is
    a whole one. The stamp names what it was made from; when that changes it is brought up to date.

    Attributes:
        path: the directory of the environment.
        python: its interpreter.
    """

    def __init__(
        self, checkout: Path = CHECKOUT, name: str = ".venv", base: str | None = None
    ) -> None:
        self.checkout = checkout
        self.path = checkout / name
        self.python = self.path / "bin" / "python"
        # Seen from inside an environment, the interpreter that it was made from.
        self._base = base or str(getattr(sys, "_base_executable", "") or sys.executable)

    def is_ready(self, extras: Iterable[str] = ()) -> bool:
        """Tell whether the environment is whole, up to date, and has at least ``extras``."""
        stamp = Stamp.read(self._stamp_file())
        return (
            stamp is not None
            and stamp.made_from == self._made_from()
            and stamp.interpreter == os.path.realpath(self.python)
            and stamp.extras.issuperset(extras)
        )

    def ensure(self, extras: Iterable[str] = ()) -> None:
        """Make the environment, or bring it up to date, so that ``is_ready(extras)`` holds.

        Safe against a second run at the same time: it waits for the first.

        Raises:
            BootstrapError: it could not be made; a new one is then removed, an old one still works.
        """
        if self.is_ready(extras):
            return
        with self._locked():
            if self.is_ready(extras):
                return
            stamp = Stamp.read(self._stamp_file())
            try:
                if stamp is not None and stamp.interpreter == os.path.realpath(self.python):
                    self._refresh(stamp, extras)
                else:
                    self._make(extras)
            except CommandFailed as error:
                raise BootstrapError(_explain(error)) from error

    def _make(self, extras: Iterable[str]) -> None:
        """Make a new environment in place of whatever is there."""
        shutil.rmtree(self.path, ignore_errors=True)
        whole = False
        try:
            run_shown(
                f"Making a virtual environment in {self.path}",
                [self._base, "-m", "venv", str(self.path)],
            )
            self._install(frozenset(extras))
            whole = True
        finally:
            if not whole:
                shutil.rmtree(self.path, ignore_errors=True)

    def _refresh(self, stamp: Stamp, extras: Iterable[str]) -> None:
        """Install what a changed pyproject.toml or new extras ask for."""
        self._stamp_file().unlink()
        try:
            self._install(stamp.extras.union(extras))
        except CommandFailed:
            # pip takes back what it did before it fails, so the old environment still works.
            stamp.write(self._stamp_file())
            raise

    def _install(self, extras: frozenset[str]) -> None:
        """Install the checkout and its dependencies, then stamp the environment."""
        made_from = self._made_from()
        named = f"[{','.join(sorted(extras))}]" if extras else ""
        run_shown(
            "Installing Python packages",
            [str(self.python), "-m", "pip", "install", "--editable", f"{self.checkout}{named}"],
            cwd=self.checkout,
        )
        stamp = Stamp(made_from, os.path.realpath(self.python), extras)
        stamp.write(self._stamp_file())

    def _stamp_file(self) -> Path:
        return self.path / _STAMP_NAME

    def _made_from(self) -> str:
        """Return a hash of what decides the content: pyproject.toml and where the checkout is."""
        digest = hashlib.sha256(f"{_FORMAT}\0{self.checkout}\0".encode())
        digest.update((self.checkout / "pyproject.toml").read_bytes())
        return digest.hexdigest()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The lock is on the directory of the checkout, so that no lock file is left in it.
        descriptor = os.open(self.checkout, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def ensure_packages(packages: Iterable[debian.Package]) -> None:
    """Install those of the Debian ``packages`` that are missing.

    Raises:
        BootstrapError: some are missing and could not be installed.
    """
    try:
        debian.install(debian.missing(packages))
    except debian.PackageError as error:
        raise BootstrapError(str(error)) from error


def ensure_environment(extras: Iterable[str] = ()) -> Environment:
    """Return the environment of this checkout with ``extras``, made or updated if needed.

    Raises:
        BootstrapError: it could not be made.
    """
    environment = Environment()
    if not environment.is_ready(extras):
        ensure_packages(_venv_package())
        environment.ensure(extras)
    return environment


def enter(arguments: list[str]) -> None:
    """Return when this interpreter may run the command, else replace it by one that may.

    In a checkout that is its ``.venv``; an installed package, or an environment that the user
    chose, is taken as it is. ``up`` also gets the Debian packages of the tour.

    Raises:
        BootstrapError: packages or environment are missing and cannot be had.
    """
    if arguments[:1] == ["up"] and "--help" not in arguments:
        if os.geteuid() != 0:
            raise BootstrapError("`up` needs root, for namespaces, mounts and cgroups; use sudo")
        ensure_packages([*debian.TOUR, *_venv_package()])
    if not (CHECKOUT / "pyproject.toml").is_file():
        return
    environment = Environment()
    extras = ("package",) if arguments[:1] == ["package"] else ()
    inside = Path(sys.prefix) == environment.path
    if not inside and sys.prefix != sys.base_prefix:
        return
    if inside and environment.is_ready(extras):
        return
    ensure_environment(extras)
    python = str(environment.python)
    os.execv(python, [python, "-P", "-m", "kubeletpy", *arguments])


def _venv_package() -> list[debian.Package]:
    """Return the package of what ``python -m venv`` needs, if this interpreter lacks it."""
    return [] if importlib.util.find_spec("ensurepip") else [debian.VENV]


def _explain(error: CommandFailed) -> str:
    """Return one line on why pip or venv failed, with what to do."""
    output = error.log.read_text(errors="replace")
    if any(sign in output for sign in _NETWORK_SIGNS):
        return (
            f"pip cannot get a package: {error.reason}. Check the network and pip's settings "
            f"(`pip config list`), then start again; the whole output is in {error.log}"
        )
    return f"{error} -- mend the cause and start again"
