"""Signals that a pod may ask its containers to be stopped with (``lifecycle.stopSignal``)."""

from __future__ import annotations

_CLASSIC = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT "
    "STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
)
SIGNALS = (
    *(f"SIG{name}" for name in _CLASSIC.split()),
    *(f"SIGRTMIN+{number}" for number in range(1, 16)),
    *(f"SIGRTMAX-{number}" for number in range(1, 15)),
)
"""In the spelling of Kubernetes' API."""


def cri_signal(name: str) -> str:
    """Return the name of CRI's enumeration: ``SIGRTMIN+2`` is ``SIGNAL_SIGRTMINPLUS2``."""
    return "SIGNAL_" + name.replace("+", "PLUS").replace("-", "MINUS")
