"""Things taken for a write that is not durable yet, and what becomes of them."""

from __future__ import annotations

from controlplane.api.resource import Claim


class Taken:
    """What has been claimed for a write; dropped at the end of the block, unless passed on."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []

    def pass_on(self) -> list[Claim]:
        """Leave it to the write, which keeps or drops it."""
        claims, self.claims = self.claims, []
        return claims

    def __enter__(self) -> Taken:
        return self

    def __exit__(self, *_: object) -> None:
        settle(self.claims, kept=False)


def settle(claims: list[Claim], *, kept: bool) -> None:
    """Keep or drop them all."""
    for claim in claims:
        if kept:
            claim.keep()
        else:
            claim.drop()
