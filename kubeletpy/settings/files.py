"""Reading KubeletConfiguration: the file of --config, then --config-dir, then flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubeletpy_common.settings.documents import fields_of, merge, read_document
from kubeletpy_common.settings.durations import ConfigurationError
from kubeletpy_common.settings.values import address

from . import configuration, validation
from .configuration import API_VERSION, FIELDS, KIND, KubeletConfiguration
from .settings import Settings
from .support import PARTLY, UNSUPPORTED

DROP_IN_SUFFIX = ".conf"
_RELATIVE = ("staticPodPath", "tlsCertFile", "tlsPrivateKeyFile", "resolvConf")
"""Paths that are taken from the directory of the file, as is authentication.x509.clientCAFile."""


def read_file(path: Path) -> Settings:
    """Read a KubeletConfiguration file.

    Raises:
        ConfigurationError: the file cannot be read, or a field of it cannot be taken.
    """
    return read(path, None, {})


def read(file: Path | None, drop_ins: Path | None, flags: dict[str, Any]) -> Settings:
    """Return the settings of a file, a directory of drop-ins, and of flags, which win.

    Args:
        file: of --config.
        drop_ins: of --config-dir; ``*.conf`` in it and below, in the order of their paths, each
            merged into what is there (RFC 7396).
        flags: fields as in a document.

    Raises:
        ConfigurationError: a file cannot be read, or a field cannot be taken.
    """
    document: dict[str, Any] = {}
    if file is not None:
        document = _anchored(document_of("--config", file), file.absolute().parent)
        _check_alone("--config", file, document)
    if drop_ins is not None:
        for path in drop_in_files(drop_ins):
            patch = document_of("--config-dir", path)
            _check_alone("--config-dir", path, patch)
            document = merge(document, patch)
    return settings_of(document, flags)


def from_document(document: object) -> Settings:
    """Turn a KubeletConfiguration document into settings; pure.

    Raises:
        ConfigurationError: a field of it cannot be taken.
    """
    return settings_of(fields_of(document, KIND, API_VERSION), {})


def settings_of(document: dict[str, Any], flags: dict[str, Any]) -> Settings:
    """Turn the fields of files, and those of flags, into settings; pure.

    Raises:
        ConfigurationError: a field cannot be taken.
    """
    one = configuration.convert(document)
    if flags:
        # Flags come after the defaults: a zero in one is a zero.
        over = configuration.decode(_overridden(configuration.encode(one), flags))
        if "maxParallelImagePulls" in document and "serializeImagePulls" not in flags:
            over.serialize_image_pulls = one.serialize_image_pulls
        one = over
    problems = validation.problems(one)
    problems += _addresses(one)
    if problems:
        raise ConfigurationError("; ".join(problems))
    given = {name for name, value in (document | flags).items() if value is not None}
    return Settings(configuration=one, given=frozenset(given), unsupported=_unsupported(one, given))


def _overridden(document: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Return a document with what flags say: maps as a whole, gates and parts of objects added."""
    result = dict(document)
    for name, value in flags.items():
        parts = name in ("authentication", "authorization", "logging", "featureGates")
        result[name] = merge(result.get(name), value) if parts else value
    return result


def _unsupported(one: KubeletConfiguration, given: set[str]) -> tuple[str, ...]:
    """Return the fields that were given, say something, and have no effect here."""
    defaults = KubeletConfiguration()
    return tuple(
        sorted(
            name
            for name in given
            if (name in UNSUPPORTED or (name in PARTLY and PARTLY[name](one)))
            and getattr(one, FIELDS[name]) != getattr(defaults, FIELDS[name])
        )
    )


def _addresses(one: KubeletConfiguration) -> list[str]:
    found = []
    for name, value in (
        ("address", one.address),
        ("healthzBindAddress", one.healthz_bind_address),
        *(("clusterDNS", server) for server in one.cluster_dns),
    ):
        try:
            address(value, name)
        except ConfigurationError as error:
            found.append(str(error))
    return found


def document_of(flag: str, path: Path) -> dict[str, Any]:
    """Return the fields in a file, kind and apiVersion checked and taken off.

    Raises:
        ConfigurationError: it cannot be read, or is something else.
    """
    return read_document(flag, path, KIND, API_VERSION)


def _check_alone(flag: str, path: Path, document: dict[str, Any]) -> None:
    """Raise with the name of the file if a field of it does not exist or is of a wrong type."""
    try:
        configuration.convert(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{flag} {path}: {error}") from None


def drop_in_files(directory: Path) -> list[Path]:
    """Return the drop-ins in a directory and below, in the order in which they count.

    Raises:
        ConfigurationError: the directory cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ConfigurationError(f"--config-dir {error.filename}: {error.strerror}")

    found = []
    for folder, _, names in os.walk(directory, onerror=refuse):
        found += [Path(folder, name) for name in names if name.endswith(DROP_IN_SUFFIX)]
    return sorted(found, key=lambda path: path.parts)


def _anchored(document: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return the document with its relative paths taken from the directory of its file."""
    result = dict(document)
    for name in _RELATIVE:
        if (path := result.get(name)) and isinstance(path, str):
            result[name] = str(directory / path)
    x509 = result.get("authentication")
    x509 = x509.get("x509") if isinstance(x509, dict) else None
    if isinstance(x509, dict) and isinstance(path := x509.get("clientCAFile"), str) and path:
        patch = {"authentication": {"x509": {"clientCAFile": str(directory / path)}}}
        return dict(merge(result, patch))
    return result
