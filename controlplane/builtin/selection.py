"""Which controllers run, as ``--controllers`` says (pure).

Source: kube-controller-manager's flag of that name: ``*`` is all, ``foo`` is one, ``-foo`` is all
but one, the first that fits a name decides. Short names of earlier versions are understood too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controlplane.options import OptionsError

NAMESPACES: Final = "namespace-controller"
GARBAGE: Final = "garbage-collector-controller"
ACCOUNTS: Final = "serviceaccount-controller"
TOKENS: Final = "serviceaccount-token-controller"
ROOT_CA: Final = "root-ca-certificate-publisher-controller"
QUOTAS: Final = "resourcequota-controller"
CLAIM_PROTECTION: Final = "persistentvolumeclaim-protection-controller"
VOLUME_PROTECTION: Final = "persistentvolume-protection-controller"

ALL: Final = (
    NAMESPACES,
    GARBAGE,
    ACCOUNTS,
    TOKENS,
    ROOT_CA,
    QUOTAS,
    CLAIM_PROTECTION,
    VOLUME_PROTECTION,
)
_ALIASES: Final = {
    "namespace": NAMESPACES,
    "garbagecollector": GARBAGE,
    "serviceaccount": ACCOUNTS,
    "serviceaccount-token": TOKENS,
    "root-ca-cert-publisher": ROOT_CA,
    "resourcequota": QUOTAS,
    "pvc-protection": CLAIM_PROTECTION,
    "pv-protection": VOLUME_PROTECTION,
}


def selected(wanted: Sequence[str]) -> frozenset[str]:
    """Return the names of the controllers that run.

    Args:
        wanted: the words of the flag, in order.

    Raises:
        OptionsError: a word names no controller.
    """
    rules: list[str] = []
    for word in wanted:
        minus = "-" if word.startswith("-") else ""
        name = word.removeprefix("-")
        name = _ALIASES.get(name, name)
        if name not in ALL and word != "*":
            raise OptionsError(
                f"--controllers: {word!r} is no controller of this server; there are *, "
                f"{', '.join(ALL)}, each also with - before it"
            )
        rules.append(minus + name)
    return frozenset(name for name in ALL if _runs(name, rules))


def _runs(name: str, rules: list[str]) -> bool:
    if name in rules:
        return True
    if f"-{name}" in rules:
        return False
    return "*" in rules
