"""The credentials that the image of a container of a pod is pulled with."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from kubeletpy.api.pod import Pod
from kubeletpy.events import Recorder
from kubeletpy.object_cache import SECRETS, ObjectCache
from kubeletpy_common import logs
from kubeletpy_common.apiclient.errors import ApiError

from .keyring import Credential, Keyring, keyring_of_secrets, parse_config
from .names import parse

_log = logging.getLogger(__name__)
_LARGEST_CONFIG = 1024 * 1024


class Provider(Protocol):
    """Gives credentials for some images; `plugins.Plugin` does."""

    async def provide(self, pod: Pod, image: str) -> list[Credential]:
        """Return the credentials for a repository, [] if it has none."""


class Credentials:
    """Pull secrets of pods, docker configurations of the node, credential-provider plugins.

    Args:
        root_dir: of the kubelet; its ``config.json`` is the first configuration of the node.
        recorder: where events go.
        objects: the Secrets of the pods; None for a standalone kubelet.
        providers: the plugins.
    """

    def __init__(
        self,
        root_dir: Path,
        recorder: Recorder,
        objects: ObjectCache | None = None,
        providers: Sequence[Provider] = (),
    ) -> None:
        home = Path(os.path.expanduser("~"))
        self._files = (
            (root_dir / "config.json", True),
            (home / ".docker" / "config.json", True),
            (Path("/.docker/config.json"), True),
            (root_dir / ".dockercfg", False),
            (home / ".dockercfg", False),
        )
        self._recorder = recorder
        self._objects = objects
        self._providers = providers

    async def of(self, pod: Pod, image: str) -> list[Credential]:
        """Return the credentials to try for an image, best first; none: without any.

        Raises:
            ValueError: a pull secret cannot be read.
        """
        repository = parse(image).repository
        found = keyring_of_secrets(await self._secrets(pod)).lookup(repository)
        found += self._node().lookup(repository)
        for provider in self._providers:
            found += await provider.provide(pod, repository)
        return list(dict.fromkeys(found))

    async def _secrets(self, pod: Pod) -> list[dict[str, Any]]:
        """Return the pull secrets of a pod; one that is missing may not be needed."""
        found, missing = [], []
        for reference in pod.spec.image_pull_secrets:
            if not reference.name or self._objects is None:
                continue
            try:
                namespace = pod.metadata.namespace
                found.append(await self._objects.get(SECRETS, namespace, reference.name))
            except ApiError as error:
                missing.append(reference.name)
                logs.event(
                    _log, logging.WARNING, "pull secret could not be had",
                    pod=pod.metadata.name, secret=reference.name, reason=str(error),
                )  # fmt: skip
        if missing:
            names = ", ".join(missing)
            self._recorder.warning(
                pod,
                "FailedToRetrieveImagePullSecret",
                f"Unable to retrieve some image pull secrets ({names}); attempting to pull the "
                "image may not succeed.",
            )
        return found

    def _node(self) -> Keyring:
        """Return the credentials of the node; of its configurations the first one counts."""
        keyring = Keyring()
        for path, nested in self._files:
            try:
                with open(path, "rb") as file:
                    keyring.add(parse_config(file.read(_LARGEST_CONFIG), nested=nested))
                break
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                logs.event(
                    _log, logging.WARNING, "docker configuration of the node ignored",
                    path=str(path), reason=str(error),
                )  # fmt: skip
        return keyring
