"""The clock: kept by somebody, plausible, and equal to that of the API server."""

from __future__ import annotations

import email.utils
import http.client
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.purpose import Purpose
from kubeletpy_common.linux.clocks import discipline

_SECONDS: Final = 2.0
"""What the API server gets to answer."""
_DAY: Final = 86400.0
# Leases of a node end 40 s after its last sign; tokens and certificates hold from their making on.
_SKEW_BAD: Final = 30.0
_SKEW_DOUBTFUL: Final = 5.0
_REMEDY: Final = "timedatectl set-ntp true (Debian: apt-get install systemd-timesyncd)"


@dataclass(frozen=True)
class Facts:
    """What is known of the clock.

    Attributes:
        synchronised: the kernel says that it is kept; None if it does not tell.
        largest_error: seconds that it may be off by.
        now: what it shows, in seconds since 1970.
        made: when these programs were put here.
        server: the API server that was asked; "" for none.
        skew: seconds by which our clock is ahead of its; None if it told none.
        problem: why it told none.
    """

    synchronised: bool | None
    largest_error: float
    now: float
    made: float
    server: str = ""
    skew: float | None = None
    problem: str = ""


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(purpose), purpose)


def gather(purpose: Purpose) -> Facts:
    """Read the facts."""
    try:
        kept = discipline()
        synchronised, largest = kept.synchronised, kept.largest_error
    except OSError:
        synchronised, largest = None, 0.0
    skew, problem = None, ""
    if purpose.api_server:
        try:
            skew = server_skew(purpose.api_server)
        except (OSError, ValueError, http.client.HTTPException) as reason:
            problem = str(reason) or type(reason).__name__
    made = Path(__file__).stat().st_mtime
    return Facts(synchronised, largest, time.time(), made, purpose.api_server, skew, problem)


def server_skew(url: str) -> float:
    """Return by how many seconds our clock is ahead of a server's.

    Its answer's ``Date`` alone is looked at, so it does not matter who the server is, and no
    certificate is checked.

    Raises:
        OSError: it cannot be reached.
        ValueError: the URL is none, or the answer has no date.
        http.client.HTTPException: it speaks no HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{url!r} is not like https://192.0.2.1:6443")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port or 443, timeout=_SECONDS, context=context
    )
    try:
        began = time.time()
        connection.request("GET", "/livez")
        told = connection.getresponse().getheader("Date", "")
        ended = time.time()
    finally:
        connection.close()
    # It is cut to whole seconds.
    return (began + ended) / 2 - (email.utils.parsedate_to_datetime(told).timestamp() + 0.5)


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    found = [_kept(facts, purpose)]
    if facts.now < facts.made - _DAY:
        shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(facts.now))
        found.append(
            error(
                "date", f"the clock shows {shown} UTC, before these programs were made",
                "certificates", f"date --set ..., or {_REMEDY}",
            )
        )  # fmt: skip
    if facts.server:
        found.append(_skew(facts))
    return found


def _kept(facts: Facts, purpose: Purpose) -> Finding:
    if facts.synchronised is None:
        return fine("clock", "the kernel does not tell whether it is kept", "certificates, leases")
    if facts.synchronised:
        seen = f"synchronised, within {facts.largest_error:.3f} s"
        return fine("clock", seen, "certificates, leases")
    found = "nobody keeps it (no NTP): it will drift away from that of other machines"
    if not purpose.joins:
        return fine("clock", "nobody keeps it (no NTP); alone it need not be", "certificates")
    return warning("clock", found, "certificates, leases", _REMEDY)


def _skew(facts: Facts) -> Finding:
    name, user = "clock and API server", "certificates, tokens, leases"
    if facts.skew is None:
        remedy = f"see whether it can be reached: curl -k {facts.server}/livez"
        return warning(name, f"{facts.server} told no time: {facts.problem}", user, remedy)
    side = "ahead of" if facts.skew > 0 else "behind"
    seen = f"{abs(facts.skew):.0f} s {side} that of {facts.server}"
    if abs(facts.skew) <= _SKEW_DOUBTFUL:
        return fine(name, f"less than {_SKEW_DOUBTFUL:.0f} s apart", user)
    remedy = f"on both machines: {_REMEDY}"
    kind = error if abs(facts.skew) > _SKEW_BAD else warning
    return kind(name, seen, user, remedy)
