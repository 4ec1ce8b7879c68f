"""systemd's manager, by systemctl(1): each call waits for the job that it began."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

from kubeletpy.install.errors import InstallError

_QUICK: Final = 60.0


def call(*arguments: str, seconds: float = _QUICK, check: bool = True) -> str:
    """Run systemctl; return what it printed.

    Raises:
        InstallError: it cannot be run, failed (if ``check``), or took longer than ``seconds``.
    """
    command = ["systemctl", "--no-ask-password", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise InstallError("systemctl is not there: this machine has no systemd") from None
    except subprocess.TimeoutExpired:
        raise InstallError(
            f"`{' '.join(command)}` did not end within {seconds:.0f} s; "
            f"see: journalctl -u {arguments[-1]}"
        ) from None
    if check and done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        raise InstallError(f"`{' '.join(command)}` failed: {reason}")
    return done.stdout


def show(unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit; those of one that is not there are those of no unit."""
    text = call("show", f"--property={','.join(properties)}", "--", unit)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def is_active(unit: str) -> bool:
    """Whether a service runs and has said that it is ready."""
    return show(unit, "ActiveState").get("ActiveState") == "active"


def reload() -> None:
    """Have systemd read its units again."""
    call("daemon-reload")


def enable(units: Sequence[str]) -> None:
    """Have units started at boot."""
    call("enable", "--quiet", "--", *units)


def start(unit: str, seconds: float, *, restart: bool = False) -> None:
    """Start a service, or start it anew, and wait until it says that it is ready.

    Raises:
        InstallError: it did not; the text holds the end of its log.
    """
    # What failed before counts no more, nor does a wait of Restart=.
    call("reset-failed", "--", unit, check=False)
    try:
        call("restart" if restart else "start", "--", unit, seconds=seconds)
    except InstallError as error:
        found = show(unit, "ActiveState", "Result", "ExecMainStatus")
        how = f"{unit} is {found.get('ActiveState')}: {found.get('Result')}, "
        how += f"exit status {found.get('ExecMainStatus')}"
        raise InstallError(f"{error}\n{how}\n{log_of(unit)}".rstrip()) from error


def stop(unit: str, seconds: float) -> None:
    """Stop a unit; one that is not there is no fault."""
    call("stop", "--", unit, seconds=seconds, check=False)
    call("reset-failed", "--", unit, check=False)


def log_of(unit: str, lines: int = 8) -> str:
    """Return the end of a service's log in the journal; "" where there is none."""
    try:
        done = subprocess.run(
            ["journalctl", "--no-pager", "--quiet", "-o", "cat", "-n", str(lines), "-u", unit],
            capture_output=True, text=True, timeout=_QUICK, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
