"""What the pods of a kubelet need of the cluster and of its settings, hooked into the `Core`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from kubeletpy.core import Core
from kubeletpy.images.credentials import Credentials
from kubeletpy.images.plugin_config import check_binaries, read_config
from kubeletpy.images.plugins import Plugin
from kubeletpy.images.records import PullRecords
from kubeletpy.settings import ConfigurationError, Settings

PRUNE_EVERY = 3600.0
"""Seconds between looks for records of images that are gone."""


def install(core: Core) -> None:
    """Follow the runtime classes of the cluster; let images be pulled with credentials.

    Raises:
        ConfigurationError: credential-provider plugins cannot be used as they are set.
    """
    images, settings = core.tools.images, core.settings
    images.limit(settings.configuration.registry_pull_qps, settings.configuration.registry_burst)
    images.credentials = Credentials(
        settings.root_dir, core.recorder, core.objects, _plugins(core, settings)
    )
    records = images.records = PullRecords(
        settings.root_dir,
        settings.configuration.image_pull_credentials_verification_policy,
        settings.configuration.preloaded_images_verification_allowlist,
    )

    async def tend() -> None:
        # What was being pulled when an earlier kubelet ended may have come since.
        await asyncio.to_thread(records.adopt, await core.cri.list_images())
        while True:
            begun = datetime.now(UTC)
            present = [image.id for image in await core.cri.list_images()]
            await asyncio.to_thread(records.prune, present, begun)
            await asyncio.sleep(PRUNE_EVERY)

    core.background.append(("records of images", tend))
    api = core.api
    if api is not None:
        core.background.append(
            ("runtime classes", lambda: core.tools.handlers.follow(api, lambda: None))
        )


def _plugins(core: Core, settings: Settings) -> list[Plugin]:
    config, directory = (
        settings.credential_provider_config,
        settings.credential_provider_bin_dir,
    )
    if config is None and directory is None:
        return []
    if config is None or directory is None:
        raise ConfigurationError(
            "--image-credential-provider-config and --image-credential-provider-bin-dir must both "
            "be set, or neither"
        )
    providers = read_config(config)
    check_binaries(providers, directory)
    return [Plugin(one, directory / one.name, core.api) for one in providers]
