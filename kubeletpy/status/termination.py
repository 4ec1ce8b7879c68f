"""The termination message of an ended container.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/ : the file
at terminationMessagePath, its last 4096 bytes; with the policy FallbackToLogsOnError, if that is
empty and the container failed, the end of its log, 2048 bytes or 80 lines at most.
"""

from __future__ import annotations

import os
import stat

LONGEST_MESSAGE = 4096
LONGEST_LOG = 2048
MOST_LOG_LINES = 80
FALLBACK = "FallbackToLogsOnError"
# Room for the time, stream and tag that stand before each line of a log.
_LOG_WINDOW = LONGEST_LOG + MOST_LOG_LINES * 64


def tail(path: str, limit: int) -> bytes:
    """Return the last ``limit`` bytes of a regular file; b"" if it cannot be read.

    The container may have written anything there, and the path could have become anything: no
    link is followed, nothing but a regular file is read, and never more than ``limit`` bytes.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError:
        return b""
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return b""
        return os.pread(descriptor, limit, max(facts.st_size - limit, 0))
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def log_tail(path: str) -> str:
    """Return the text at the end of a log in the CRI format (time, stream, tag, text)."""
    data = tail(path, _LOG_WINDOW)
    texts: list[bytes] = []
    for line in data.splitlines(keepends=True)[-MOST_LOG_LINES:]:
        parts = line.split(b" ", 3)
        if len(parts) == 4 and parts[1] in (b"stdout", b"stderr"):
            text = parts[3]
            texts.append(text.removesuffix(b"\n") if parts[2].startswith(b"P") else text)
    return b"".join(texts)[-LONGEST_LOG:].decode(errors="replace")


def termination_message(*, reported: str, file: str, policy: str, log: str, failed: bool) -> str:
    """Return the message of an ended container.

    Args:
        reported: what the runtime says itself.
        file: the termination-log file on the host; "" if there is none.
        policy: File or FallbackToLogsOnError.
        log: the container's log file on the host; "" if there is none.
        failed: whether it ended with an error.
    """
    own = tail(file, LONGEST_MESSAGE).decode(errors="replace") if file else ""
    if not own and policy == FALLBACK and failed and log:
        own = log_tail(log)
    if reported and own:
        return f"{reported}: {own}"
    return reported or own
