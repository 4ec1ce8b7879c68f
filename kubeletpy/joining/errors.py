"""Why a machine cannot join."""

from __future__ import annotations


class JoinError(Exception):
    """A machine cannot join; the text says what was tried on what, why it failed, what to do.

    Attributes:
        kind: what went wrong, for programs: ``input``, ``unreachable``, ``refused``, ``not-tls``,
            ``untrusted``, ``clock``, ``not-kubernetes``, ``no-cluster-info``, ``token-unknown``,
            ``token-secret``, ``token-refused``, ``token-usage``, ``token-rights``, ``hash``,
            ``name-taken``, ``version``.
        remedy: what to do.
    """

    def __init__(self, kind: str, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}. {remedy}")
        self.kind = kind
        self.remedy = remedy
