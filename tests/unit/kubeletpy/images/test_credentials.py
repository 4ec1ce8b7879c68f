"""Pulls with the credentials of a pod, of the node and of plugins."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from kubeletpy.api.container import Container
from kubeletpy.api.meta import LocalObjectReference
from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriError
from kubeletpy.events import Recorder
from kubeletpy.images.credentials import Credentials
from kubeletpy.images.keyring import Credential
from kubeletpy.images.pulls import Images
from kubeletpy.images.records import PullRecords
from kubeletpy.object_cache import ObjectCache
from kubeletpy.pods.state import ImagePhase, ImageState
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_proto import cri_pb2
from tests.unit.kubeletpy.pods.build import pod

IMAGE = "registry.example/web:1"


class Secrets:
    """Plays the cache of Secrets."""

    def __init__(self, **passwords: str) -> None:
        self.passwords = passwords

    async def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        if name not in self.passwords:
            raise ApiError(404, "NotFound", f'secrets "{name}" not found')
        entry = {"username": name, "password": self.passwords[name]}
        content = json.dumps({"auths": {"registry.example": entry}}).encode()
        return {
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
            "data": {".dockerconfigjson": base64.b64encode(content).decode()},
        }


class Registry:
    """Plays the runtime: pulls need the password ``right``."""

    def __init__(self) -> None:
        self.present = False
        self.tried: list[str] = []

    async def image_status(self, image: str) -> cri_pb2.Image | None:
        return cri_pb2.Image(id="sha256:1") if self.present else None

    async def pull_image(
        self,
        image: str,
        *,
        auth: cri_pb2.AuthConfig | None = None,
        sandbox_config: cri_pb2.PodSandboxConfig | None = None,
    ) -> str:
        self.tried.append(auth.username if auth is not None else "nobody")
        if auth is None or auth.password != "right":
            raise CriError("PullImage", grpc.StatusCode.UNKNOWN, "unauthorized")
        self.present = True
        return "sha256:1"


class Bench:
    """Images pulled by a kubelet with its root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry, self.recorder = Registry(), Recorder("n")
        self.secrets = Secrets(good="right", bad="wrong")
        self.images = Images(self.registry, self.recorder)
        self.images.credentials = self.credentials()
        self.images.records = PullRecords(root)

    def credentials(self, *providers: Any) -> Credentials:
        cache = cast(ObjectCache, cast(Any, self.secrets))
        return Credentials(self.root, self.recorder, cache, providers)

    async def ensure(self, *secrets: str, policy: str = "IfNotPresent") -> ImageState:
        container = Container(name="a", image=IMAGE, image_pull_policy=policy)
        return await self.images.ensure(asking(*secrets), container, cri_pb2.PodSandboxConfig())

    def reasons(self) -> list[str]:
        return [event.reason for event in self.recorder.events()]


def asking(*secrets: str) -> Pod:
    references = [LocalObjectReference(name=name) for name in secrets]
    return pod("a", image_pull_secrets=references)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Bench(tmp_path)


async def test_each_credential_is_tried(bench: Bench) -> None:
    state = await bench.ensure("bad", "good")
    assert state.phase is ImagePhase.PRESENT
    assert bench.registry.tried == ["bad", "good"]


async def test_without_credentials_that_work(bench: Bench) -> None:
    state = await bench.ensure("bad")
    assert (state.reason, state.message) == ("ErrImagePull", "unauthorized")
    assert (await bench.ensure()).reason == "ErrImagePull"
    assert bench.registry.tried == ["bad", "nobody"]


async def test_a_secret_that_is_missing_is_told_and_the_pull_tried(bench: Bench) -> None:
    state = await bench.ensure("none", "good")
    assert state.phase is ImagePhase.PRESENT
    (told,) = [
        event.message
        for event in bench.recorder.events()
        if event.reason == "FailedToRetrieveImagePullSecret"
    ]
    assert told.startswith("Unable to retrieve some image pull secrets (none)")


async def test_configurations_of_the_node(bench: Bench) -> None:
    entry = {"auths": {"registry.example": {"username": "node", "password": "right"}}}
    (bench.root / "config.json").write_text(json.dumps(entry))
    assert (await bench.ensure("bad")).phase is ImagePhase.PRESENT
    assert bench.registry.tried == ["bad", "node"]
    # The node's credentials are for all of its pods.
    assert (await bench.ensure()).phase is ImagePhase.PRESENT
    assert len(bench.registry.tried) == 2


async def test_plugins_come_last(bench: Bench) -> None:
    class Provider:
        async def provide(self, pod: Pod, image: str) -> list[Credential]:
            assert image == "registry.example/web"
            return [Credential("plugin", "right")]

    bench.images.credentials = bench.credentials(Provider())
    assert (await bench.ensure("bad")).phase is ImagePhase.PRESENT
    assert bench.registry.tried == ["bad", "plugin"]


async def test_an_image_of_another_pod_needs_credentials(bench: Bench) -> None:
    assert (await bench.ensure("good")).phase is ImagePhase.PRESENT
    # With the same secret it is there; without, it is pulled for this pod, which fails.
    assert (await bench.ensure("good")).phase is ImagePhase.PRESENT
    assert len(bench.registry.tried) == 1
    assert (await bench.ensure("bad")).reason == "ErrImagePull"
    assert (await bench.ensure()).reason == "ErrImagePull"
    assert (await bench.ensure("bad", policy="Never")).reason == "ErrImageNeverPull"
    assert (await bench.ensure("good", policy="Never")).phase is ImagePhase.PRESENT


async def test_an_image_that_was_there_before_is_for_all(bench: Bench) -> None:
    bench.registry.present = True
    assert (await bench.ensure(policy="Never")).phase is ImagePhase.PRESENT
    assert bench.registry.tried == []


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        ("RegistryUnavailable: no route", "RegistryUnavailable",
         f"image pull failed for {IMAGE} because the registry is unavailable: no route"),
        ("SignatureValidationFailed", "SignatureValidationFailed",
         f"image pull failed for {IMAGE} because the signature validation failed"),
        ("manifest unknown", "ErrImagePull", "manifest unknown"),
    ],
)  # fmt: skip
async def test_reasons(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, said: str, reason: str, message: str
) -> None:
    async def refuse(image: str, **_: Any) -> str:
        raise CriError("PullImage", grpc.StatusCode.UNKNOWN, said)

    monkeypatch.setattr(bench.registry, "pull_image", refuse)
    state = await bench.ensure()
    assert (state.reason, state.message) == (reason, message)
    assert bench.reasons() == ["Pulling", "Failed", "Failed"]


async def test_a_name_that_is_none(bench: Bench) -> None:
    container = Container(name="a", image="me/Name", image_pull_policy="IfNotPresent")
    state = await bench.images.ensure(pod("a"), container, cri_pb2.PodSandboxConfig())
    assert state.reason == "InvalidImageName"
    assert "repository name (me/Name) must be lowercase" in state.message
    assert bench.reasons() == ["InspectFailed", "Failed"]
