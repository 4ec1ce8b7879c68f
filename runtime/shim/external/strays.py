"""Children that were reaped before it was known whose they are.

A container's process is a child of the runtime's program, and of the shim once that one has ended
(PR_SET_CHILD_SUBREAPER). A short one can have ended by then, and be reaped before the file with its
process id was read.
"""

from __future__ import annotations

import os

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Strays:
    """Keeps the wait status of such children for as long as anybody may ask for it.

    Args:
        children: who hears of the end of which child of the shim, by its pid.
    """

    def __init__(self, children: dict[int, Any]) -> None:
        self._children = children
        self._statuses: dict[int, int] = {}
        self._expecting = 0

    def expect(self) -> None:
        """A program runs that may leave a child."""
        self._expecting += 1

    def settle(self) -> None:
        """It has ended, and its child was adopted, if there was one."""
        self._expecting -= 1
        if not self._expecting:
            self._statuses.clear()

    def ended(self, pid: int, status: int) -> None:
        """Take note of the end of an unknown child."""
        if self._expecting:
            self._statuses[pid] = status

    def adopt(self, pid: int, owner: Any) -> None:
        """Have ``owner.reaped`` called at the end of ``pid``, at once if that is past.

        Raises:
            ChildProcessError: it never was a child of this process.
        """
        status = self._statuses.pop(pid, None)
        try:
            # Whoever is a child now has the number anew: nobody else can until it is reaped.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            if status is None:
                raise
            owner.reaped(status)
        else:
            self._children[pid] = owner
