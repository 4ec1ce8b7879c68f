"""The command line of an OCI runtime, as runc has it and others follow, and what it says (pure)."""

from __future__ import annotations

import json

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

NO_REASON: Final = "it gave no reason"

_MAX_SAID: Final = 2000
"""Characters of a runtime's message that are passed on."""


class CommandLine:
    """How to call an external OCI runtime for the containers of one pod.

    Attributes:
        name: of the handler, for errors.
        path: absolute path of the program.
        root: directory in which the runtime keeps the state of its containers.
        arguments: further global options.
        exec_cgroups: ``exec`` has runc's option ``--cgroup``.
        roots: directory of the pod in which the containers' root file systems are mounted.
    """

    def __init__(
        self,
        name: str,
        path: str,
        root: str,
        arguments: list[str],
        exec_cgroups: bool,
        roots: str,
    ) -> None:
        self.name = name
        self.path = path
        self.root = root
        self.arguments = list(arguments)
        self.exec_cgroups = exec_cgroups
        self.roots = roots

    def to_message(self) -> dict[str, Any]:
        """Return what JSON can carry, and ``CommandLine(**message)`` builds from."""
        return dict(vars(self))

    def words(self, log: str, *rest: str) -> list[str]:
        """Return the whole command line of an operation whose errors go to the file ``log``."""
        log_options = ["--log", log, "--log-format", "json"]
        return [self.path, "--root", self.root, *log_options, *self.arguments, *rest]

    def failure(self, operation: str, status: int, said: str) -> str:
        """Say what was run, how it ended, and what it said of it.

        Args:
            operation: ``create`` and so on.
            status: as os.waitstatus_to_exitcode() has it.
            said: content of the log file, and of its stderr where it had an own one.
        """
        ended = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
        reason = errors_of(said) or NO_REASON
        return f"`{self.path} {operation}` {ended}: {reason}"


def errors_of(said: str) -> str:
    """Return the messages of level error and above of a runtime's log.

    Lines that are no JSON are what the program wrote to its stderr, and count as they are. runc
    writes each error to both.
    """
    messages: list[str] = []
    for line in said.splitlines():
        text = _message(line)
        if text and not any(text in other for other in messages):
            messages.append(text)
    text = "; ".join(messages)
    return text if len(text) <= _MAX_SAID else text[: _MAX_SAID - 1] + "…"


def _message(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(entry, dict):
        return line.strip()
    # runc: level "error" (logrus); crun: "error" as well.
    if entry.get("level", "error") not in ("error", "fatal", "panic"):
        return ""
    return str(entry.get("msg", "")).strip()
