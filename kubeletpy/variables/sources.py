"""ConfigMaps, Secrets and files that the variables of a container come from.

All are read before a container is configured; from then on it is a pure function
(`kubeletpy.cri.environment`). Optional ones that are missing are left out; the wording of what is
missing is the Go kubelet's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from kubeletpy.api.container import Container, FileKeySelector
from kubeletpy.api.pod import Pod
from kubeletpy.cri.container_config import MountedVolume
from kubeletpy.cri.environment import Sources
from kubeletpy.cri.security import ConfigError
from kubeletpy.sources.updates import CONFIG_SOURCE
from kubeletpy.volumes.objects import ObjectMissing, Objects, ObjectsUnreachable
from kubeletpy.volumes.payload import PayloadError, values_of
from kubeletpy_common.linux.paths import open_beneath

from . import env_file
from .services import Services

API = "api"
LARGEST_FILE = 64 * 1024
"""Bytes that a file of variables may have (KEP-3721)."""
_RESOURCES = {"configmap": "configmaps", "secret": "secrets"}


def references(container: Container) -> dict[tuple[str, str], bool]:
    """Return the objects that a container's variables name, and whether all of it may be missing.

    Returns:
        kind (``configmap`` or ``secret``) and name, to whether every use of it is optional (pure).
    """
    found: dict[tuple[str, str], bool] = {}

    def note(kind: str, name: str, optional: bool | None) -> None:
        found[kind, name] = found.get((kind, name), True) and bool(optional)

    for every in container.env_from:
        if every.config_map_ref is not None:
            note("configmap", every.config_map_ref.name, every.config_map_ref.optional)
        if every.secret_ref is not None:
            note("secret", every.secret_ref.name, every.secret_ref.optional)
    for variable in container.env:
        source = variable.value_from
        if source is not None and source.config_map_key_ref is not None:
            one = source.config_map_key_ref
            note("configmap", one.name, one.optional)
        if source is not None and source.secret_key_ref is not None:
            one = source.secret_key_ref
            note("secret", one.name, one.optional)
    return found


class VariableSources:
    """Reads what the variables of containers come from.

    Args:
        objects: the API server.
        services: of the cluster.
    """

    def __init__(self, objects: Objects, services: Services) -> None:
        self._objects = objects
        self._services = services

    async def collect(self, pod: Pod, container: Container) -> Sources:
        """Return the objects and services that a container's variables come from.

        Raises:
            ConfigError: one cannot be had, and is not optional.
        """
        namespace = pod.metadata.namespace
        objects: dict[tuple[str, str], dict[str, str]] = {}
        for (kind, name), optional in references(container).items():
            try:
                found = await self._objects.get(_RESOURCES[kind], namespace, name)
                values = values_of(kind, found)
            except ObjectMissing as error:
                if optional:
                    continue
                raise ConfigError(f'{kind} "{name}" not found') from error
            except (ObjectsUnreachable, PayloadError) as error:
                raise ConfigError(str(error)) from error
            if kind == "configmap":
                # Binary values are no variables, even if they happen to be text.
                values = {key: values[key] for key in found.get("data") or {}}
            objects[kind, name] = {
                key: value.decode("utf-8", "surrogateescape") for key, value in values.items()
            }
        try:
            services = await self._services.variables(
                namespace,
                links=pod.spec.enable_service_links is not False,
                wait=pod.metadata.annotations.get(CONFIG_SOURCE, API) == API,
            )
        except TimeoutError as error:
            raise ConfigError(
                "services have not yet been read at least once, cannot construct envvars"
            ) from error
        return Sources(objects=objects, services=services)


def read_files(
    container: Container, volumes: Mapping[str, MountedVolume]
) -> dict[tuple[str, str, str], str]:
    """Return the variables that ``fileKeyRef`` names, by volume, path and key. Blocking.

    Raises:
        ConfigError: one cannot be had, and is not optional.
    """
    found = {}
    for variable in container.env:
        source = variable.value_from
        if source is not None and source.file_key_ref is not None:
            one = source.file_key_ref
            value = _read(one, volumes)
            if value:
                found[one.volume_name, one.path, one.key] = value
            elif not one.optional:
                raise ConfigError(
                    f'environment variable key "{one.key}" not found in file "{one.path}" of '
                    f'volume "{one.volume_name}"'
                )
    return found


def _read(one: FileKeySelector, volumes: Mapping[str, MountedVolume]) -> str:
    volume = volumes.get(one.volume_name)
    if volume is None or not volume.path:
        raise ConfigError(f'cannot find the volume "{one.volume_name}" referenced by FileKeyRef')
    try:
        text = _text(volume.path, one.path)
        return env_file.parse(text, one.key)
    except FileNotFoundError as error:
        if one.optional:
            return ""
        raise ConfigError(f"couldn't parse env file: {error}") from error
    except (OSError, UnicodeDecodeError, env_file.EnvFileError) as error:
        raise ConfigError(f"couldn't parse env file: {error}") from error


def _text(volume: str, path: str) -> str:
    """Return a small file of a volume; what a container wrote there is not trusted."""
    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Not blocking: a pipe in its place must not hold up the kubelet.
        file = open_beneath(root, path.lstrip("/"), os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(root)
    with os.fdopen(file, "rb") as opened:
        content = opened.read(LARGEST_FILE + 1)
    if content is None or len(content) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"{path}: larger than {LARGEST_FILE} bytes, or no file")
    return content.decode()
