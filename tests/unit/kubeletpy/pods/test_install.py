"""What the pods' part of a kubelet hooks in."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubeletpy.core import Core
from kubeletpy.events import Recorder
from kubeletpy.images.pulls import Images
from kubeletpy.pods.handlers import RuntimeHandlers
from kubeletpy.pods.install import install
from kubeletpy.settings import ConfigurationError, Settings
from kubeletpy_proto import cri_pb2

from .memory_runtime import MemoryRuntime


class Cri:
    """A runtime with one image; tells when it was listed for the second time."""

    def __init__(self) -> None:
        self.lists = 0
        self.twice = asyncio.Event()

    async def list_images(self) -> list[cri_pb2.Image]:
        self.lists += 1
        if self.lists == 2:
            self.twice.set()
        return [cri_pb2.Image(id="sha256:1", repo_tags=["web:1"])]


def core_of(root: Path, **settings: Any) -> tuple[Core, Cri, Images]:
    cri, recorder = Cri(), Recorder("n")
    images = Images(MemoryRuntime(), recorder)
    core = SimpleNamespace(
        settings=Settings(root_dir=root, **settings), recorder=recorder, objects=None, api=None,
        cri=cri, background=[], tools=SimpleNamespace(images=images, handlers=RuntimeHandlers()),
    )  # fmt: skip
    return cast(Core, core), cri, images


async def test_records_are_taken_over_and_pruned(tmp_path: Path) -> None:
    core, cri, images = core_of(tmp_path)
    install(core)
    assert images.credentials is not None
    assert images.records is not None
    images.records.begin("web:1")
    images.records.begin("gone:1")
    images.records.succeeded("gone:1", "sha256:2", None)
    pulled = tmp_path / "image_manager" / "pulled"
    (gone,) = pulled.iterdir()
    old = json.loads(gone.read_bytes()) | {"lastUpdatedTime": "2020-01-01T00:00:00Z"}
    gone.write_text(json.dumps(old))
    # The next kubelet: what it finds of the last one's pulls is looked at once it runs.
    core, cri, images = core_of(tmp_path)
    install(core)
    ((name, work),) = core.background
    assert name == "records of images"
    task = asyncio.ensure_future(work())
    async with asyncio.timeout(30):
        await cri.twice.wait()
        while gone.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    (record,) = (json.loads(file.read_bytes()) for file in pulled.iterdir())
    assert record["imageRef"] == "sha256:1"
    assert not any((tmp_path / "image_manager" / "pulling").iterdir())


@pytest.mark.parametrize("flag", ["credential_provider_config", "credential_provider_bin_dir"])
async def test_plugins_need_both_flags(tmp_path: Path, flag: str) -> None:
    core, _, _ = core_of(tmp_path, **{flag: tmp_path})
    with pytest.raises(ConfigurationError, match="must both be set"):
        install(core)


async def test_plugins_have_to_be_there(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    provider = {
        "name": "login", "matchImages": ["*.example"], "defaultCacheDuration": "1m",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    }  # fmt: skip
    config.write_text(
        json.dumps(
            {
                "apiVersion": "kubelet.config.k8s.io/v1",
                "kind": "CredentialProviderConfig",
                "providers": [provider],
            }
        )
    )
    flags = {"credential_provider_config": config, "credential_provider_bin_dir": tmp_path}
    core, _, _ = core_of(tmp_path, **flags)
    with pytest.raises(ConfigurationError, match="login did not exist"):
        install(core)
    (tmp_path / "login").write_text("#!/bin/sh\n")
    (tmp_path / "login").chmod(0o755)
    install(core)
