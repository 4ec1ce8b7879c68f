"""From the daemon's settings to those of its parts."""

from __future__ import annotations

from pathlib import Path

from runtime.config import Config
from runtime.images import settings as images
from runtime.network.cni.network import CniConfig
from runtime.network.config import NetworkConfig


def network_config(config: Config) -> NetworkConfig:
    """Return the settings of the bridge network.

    Raises:
        ValueError: a name or a network that cannot work.
    """
    network = config.network
    return NetworkConfig(
        bridge=network.bridge,
        subnet_v4=network.subnet_v4,
        subnet_v6=network.subnet_v6 or None,
        mtu=network.mtu or None,
        ipv6_required=network.ipv6_required,
        from_node=network.from_node,
        no_masquerade=network.no_masquerade,
        node_file=Path(network.node_file),
    )


def cni_config(config: Config) -> CniConfig:
    """Return the settings of the network by CNI plugins.

    Raises:
        ValueError: an address range is none.
    """
    cni = config.cni
    return CniConfig(
        conf_dir=Path(cni.conf_dir) if cni.conf_dir else None,
        bin_dirs=tuple(Path(directory) for directory in cni.bin_dirs),
        plugin_seconds=cni.plugin_seconds,
        pod_cidrs=cni.pod_cidrs,
    )


def registry_config(config: Config) -> images.RegistryConfig:
    """Return the settings of pulls."""
    return images.RegistryConfig(
        host_directories=config.images.directories,
        pinned=config.images.pinned,
        parallel_downloads=config.images.parallel_downloads,
        attempts=config.images.attempts,
        stall_seconds=config.images.progress_seconds,
        registries={
            domain: images.RegistrySettings(
                plain_http=registry.plain_http,
                ca_file=registry.ca_file,
                client_cert=registry.client_cert,
                client_key=registry.client_key,
                mirrors=registry.mirrors,
            )
            for domain, registry in config.registries.items()
        },
    )
