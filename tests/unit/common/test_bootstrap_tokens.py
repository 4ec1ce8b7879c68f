"""Signatures of cluster-info, and the Secrets that tokens are."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeletpy_common.bootstrap_tokens import (
    detached_signature,
    is_expired,
    signature_holds,
    signed_data,
    signing_token,
    utc_text,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = {"token-id": "abcdef", "token-secret": "0" * 16, "usage-bootstrap-signing": "true"}


def secret(
    held: dict[str, str], name: str = "bootstrap-token-abcdef", **more: Any
) -> dict[str, Any]:
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in held.items()}
    return {
        "metadata": {"name": name, "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token", "data": encoded, **more,
    }  # fmt: skip


def test_the_signature_is_that_of_go() -> None:
    content = "Hello from the other side. I must have called a thousand times."
    wanted = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
    assert detached_signature(content, "joshua", "my voice is my passcode") == wanted
    assert signature_holds(wanted, content, "joshua", "my voice is my passcode")
    for other in (("x", "joshua", "my voice is my passcode"), (content, "other", "x"),
                  (content, "joshua", "x")):  # fmt: skip
        assert not signature_holds(wanted, *other)
    assert not signature_holds("\udc80ä", content, "joshua", "x")


@pytest.mark.parametrize(
    ("value", "signs"),
    [
        (secret(GOOD), True),
        (secret(GOOD, type="Opaque"), False),
        (secret(GOOD, "bootstrap-token-abcdeg"), False),
        (secret(GOOD, "other-abcdef"), False),
        (secret(GOOD, metadata={"name": "bootstrap-token-abcdef", "namespace": "x"}), False),
        (secret({**GOOD, "token-secret": ""}), False),
        (secret({**GOOD, "usage-bootstrap-signing": "True"}), False),
        (secret({**GOOD, "expiration": "2026-01-02T03:04:06Z"}), True),
        (secret({**GOOD, "expiration": "2026-01-02T03:04:05Z"}), False),
        (secret({**GOOD, "expiration": "2026-01-02T05:04:06+02:00"}), True),
        (secret({**GOOD, "expiration": "2026-01-02T05:04:06"}), False),
        (secret({**GOOD, "expiration": "soon"}), False),
        (secret({}, data={"token-id": "%%%", "token-secret": 1}), False),
        (secret({}, data=None), False),
    ],
)
def test_which_secrets_sign(value: dict[str, Any], signs: bool) -> None:
    assert (signing_token(value, NOW) == ("abcdef", "0" * 16)) is signs


def test_what_is_written() -> None:
    data = {"kubeconfig": "x", "jws-kubeconfig-gone00": "old", "other": "kept"}
    found = signed_data(data, {"abcdef": "0" * 16})
    assert found == {
        "kubeconfig": "x", "other": "kept",
        "jws-kubeconfig-abcdef": detached_signature("x", "abcdef", "0" * 16),
    }  # fmt: skip
    assert signed_data(found, {"abcdef": "0" * 16}) is None
    assert signed_data({"jws-kubeconfig-gone00": "old"}, {}) is None
    assert signed_data(found, {}) == {"kubeconfig": "x", "other": "kept"}


def test_times() -> None:
    assert not is_expired({}, NOW)
    assert is_expired({"expiration": utc_text(NOW)}, NOW)
    assert not is_expired({"expiration": utc_text(NOW + timedelta(seconds=1))}, NOW)
