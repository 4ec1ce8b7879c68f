"""Secrets that ask for the token of a service account."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.furnishing.tokens import signer_of
from controlplane.engine.controller import OptionError
from controlplane.engine.resources import ACCOUNTS, SECRETS, Object
from tests.support.cluster import Cluster, cluster

NAME = "serviceaccount-token-controller"
REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"


def asking(name: str, account: str) -> Object:
    return {
        "metadata": {"name": name,
                     "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token",
    }  # fmt: skip


def held(secrets: list[Object]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one.get("data") or {} for one in secrets}


async def user_of(server: Cluster, token: str) -> dict[str, Any]:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
              "spec": {"token": token}}  # fmt: skip
    status: dict[str, Any] = (await server.client.create(REVIEW, review))["status"]
    return status


async def test_filled_good_mended_and_gone_with_its_account(tmp_path: Path) -> None:
    # Without those of the server itself: what is seen here is the controller's work.
    async with cluster(tmp_path, controllers=()) as server:
        key = tmp_path / "api" / "pki" / "sa.key"
        await server.create(ACCOUNTS, {"metadata": {"name": "robot"}})
        await server.start(NAME, service_account_private_key_file=str(key))
        await server.create(SECRETS, asking("one", "robot"))
        found = await server.until(SECRETS, lambda all_: held(all_).get("one", {}).get("token"))
        data = held(found)["one"]
        token = base64.b64decode(data["token"]).decode()
        assert base64.b64decode(data["namespace"]) == b"default"
        assert b"BEGIN CERTIFICATE" in base64.b64decode(data["ca.crt"])
        status = await user_of(server, token)
        assert status["user"]["username"] == "system:serviceaccount:default:robot"
        await server.client.delete(ACCOUNTS.path("default", "robot"))
        await server.until(SECRETS, lambda all_: "one" not in held(all_))
        assert not (await user_of(server, token)).get("authenticated")


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("no key")
    with pytest.raises(OptionError, match="--service-account-private-key-file"):
        signer_of(file)
    with pytest.raises(OptionError, match="No such file"):
        signer_of(tmp_path / "gone")
