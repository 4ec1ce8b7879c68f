"""The configuration of credential-provider plugins: CredentialProviderConfig, v1 to v1alpha1.

https://kubernetes.io/docs/reference/config-api/kubelet-credentialprovider.v1/
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeletpy.api.fields import is_qualified_name
from kubeletpy_common.documents import DocumentError, parse
from kubeletpy_common.settings.durations import ConfigurationError, duration

GROUP = "kubelet.config.k8s.io"
API_GROUP = "credentialprovider.kubelet.k8s.io"
CACHE_BY_ACCOUNT, CACHE_BY_TOKEN = "ServiceAccount", "Token"
_VERSIONS = ("v1", "v1beta1", "v1alpha1")
_ENDINGS = (".json", ".yaml", ".yml")
_LARGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TokenAttributes:
    """What a plugin wants to know of a pod's service account (KEP-4412)."""

    audience: str
    cache_type: str
    require_service_account: bool
    required_keys: tuple[str, ...] = ()
    optional_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One plugin; ``cache_seconds`` holds for answers that name no duration."""

    name: str
    match_images: tuple[str, ...]
    cache_seconds: float
    api_version: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    token_attributes: TokenAttributes | None = None


def read_config(path: Path) -> list[ProviderConfig]:
    """Read the configuration: a file, or a directory of files in the order of their names.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    where = f"--image-credential-provider-config {path}"
    try:
        files = _files(path)
        contents = []
        for file in files:
            with open(file, "rb") as opened:
                contents.append((file, parse(opened.read(_LARGEST))))
    except OSError as error:
        raise ConfigurationError(f"{where}: {error.strerror}") from None
    except DocumentError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if not files:
        raise ConfigurationError(f"{where}: no configuration files in the directory")
    found: dict[str, ProviderConfig] = {}
    for file, document in contents:
        try:
            providers = parse_config(document)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {file.name}: {error}") from None
        for provider in providers:
            if provider.name in found:
                raise ConfigurationError(f"{where}: provider {provider.name!r} is given twice")
            found[provider.name] = provider
    return list(found.values())


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(one for one in path.iterdir() if one.suffix in _ENDINGS and one.is_file())
    return [path]


def check_binaries(providers: Iterable[ProviderConfig], directory: Path) -> None:
    """Check that the program of each plugin is there.

    Raises:
        ConfigurationError: one is not.
    """
    for provider in providers:
        binary = directory / provider.name
        if not (binary.is_file() and os.access(binary, os.X_OK)):
            raise ConfigurationError(
                f"--image-credential-provider-bin-dir: plugin binary executable {binary} did not "
                "exist, or cannot be executed"
            )


def parse_config(document: object) -> list[ProviderConfig]:
    """Take a document apart; pure.

    Raises:
        ConfigurationError: something in it is wrong.
    """
    fields = _object(document, "document")
    version = str(fields.pop("apiVersion", ""))
    kind = fields.pop("kind", "")
    if kind != "CredentialProviderConfig" or version not in {f"{GROUP}/{v}" for v in _VERSIONS}:
        raise ConfigurationError(f"{version}, {kind}: is no CredentialProviderConfig of {GROUP}")
    providers = _list(fields.pop("providers", None), "providers")
    _nothing_else(fields, "document")
    if not providers:
        raise ConfigurationError("providers: at least 1 item in plugins is required")
    return [_provider(one, f"providers[{index}]") for index, one in enumerate(providers)]


def _provider(document: object, path: str) -> ProviderConfig:
    fields = _object(document, path)
    name = str(fields.pop("name", ""))
    if not name or name in (".", "..") or "/" in name or " " in name:
        raise ConfigurationError(f"{path}.name: {name!r} is not the name of a program")
    api_version = str(fields.pop("apiVersion", ""))
    known = tuple(f"{API_GROUP}/{one}" for one in _VERSIONS)
    if api_version not in known:
        raise ConfigurationError(
            f"{path}.apiVersion: {api_version!r} is not supported, only {', '.join(known)}"
        )
    images = tuple(str(one) for one in _list(fields.pop("matchImages", None), "matchImages"))
    if not images:
        raise ConfigurationError(f"{path}.matchImages: at least 1 item in matchImages is required")
    if "defaultCacheDuration" not in fields:
        raise ConfigurationError(f"{path}.defaultCacheDuration: Required value")
    seconds = float(duration(fields.pop("defaultCacheDuration"), f"{path}.defaultCacheDuration"))
    if seconds < 0:
        raise ConfigurationError(f"{path}.defaultCacheDuration: must not be negative")
    args = tuple(str(one) for one in _list(fields.pop("args", None), f"{path}.args"))
    env = []
    for index, one in enumerate(_list(fields.pop("env", None), f"{path}.env")):
        variable = _object(one, f"{path}.env[{index}]")
        env.append((str(variable.get("name", "")), str(variable.get("value", ""))))
    tokens = fields.pop("tokenAttributes", None)
    _nothing_else(fields, path)
    attributes = None
    if tokens is not None:
        if api_version != known[0]:
            raise ConfigurationError(f"{path}.tokenAttributes: is only supported for {known[0]}")
        attributes = _attributes(tokens, f"{path}.tokenAttributes")
    return ProviderConfig(name, images, seconds, api_version, args, tuple(env), attributes)


def _attributes(document: object, path: str) -> TokenAttributes:
    fields = _object(document, path)
    audience = str(fields.pop("serviceAccountTokenAudience", ""))
    cache_type = str(fields.pop("cacheType", ""))
    require = fields.pop("requireServiceAccount", None)
    required, optional = (
        tuple(str(one) for one in _list(fields.pop(name, None), f"{path}.{name}"))
        for name in (
            "requiredServiceAccountAnnotationKeys", "optionalServiceAccountAnnotationKeys"
        )
    )  # fmt: skip
    _nothing_else(fields, path)
    if not audience:
        raise ConfigurationError(f"{path}.serviceAccountTokenAudience: Required value")
    if not isinstance(require, bool):
        raise ConfigurationError(f"{path}.requireServiceAccount: Required value, true or false")
    if cache_type not in (CACHE_BY_ACCOUNT, CACHE_BY_TOKEN):
        raise ConfigurationError(
            f"{path}.cacheType: {cache_type!r} is not supported, only {CACHE_BY_ACCOUNT} and "
            f"{CACHE_BY_TOKEN}"
        )
    if required and not require:
        raise ConfigurationError(
            f"{path}.requireServiceAccount cannot be false when "
            "requiredServiceAccountAnnotationKeys is set"
        )
    keys = [*required, *optional]
    if len(set(keys)) != len(keys):
        raise ConfigurationError(f"{path}: an annotation key is given twice")
    for key in keys:
        if not is_qualified_name(key.lower()):
            raise ConfigurationError(f"{path}: {key!r} is no key of an annotation")
    return TokenAttributes(audience, cache_type, require, required, optional)


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path}: not an object")
    return dict(value)


def _list(value: object, path: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigurationError(f"{path}: not a list")
    return value


def _nothing_else(fields: dict[str, Any], path: str) -> None:
    if fields:
        raise ConfigurationError(f"{path}: no such field: {', '.join(sorted(fields))}")
