"""The settings of one proxy, from file and flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeletpy_common.settings import feature_gates
from kubeletpy_common.settings.documents import merge, read_document
from kubeletpy_common.settings.durations import ConfigurationError

from . import configuration, validation
from .configuration import API_VERSION, FIELDS, KIND, KubeProxyConfiguration


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings.

    Attributes:
        configuration: every field of KubeProxyConfiguration; durations are seconds.
        config_file: where it was read; None: of flags alone.
        unsupported: names of fields that are set and have no effect here, and why.
        overridden: flags that were given and do not count beside ``--config``.
        master: URL of the API server, before the kubeconfig's.
    """

    configuration: KubeProxyConfiguration = field(default_factory=KubeProxyConfiguration)
    config_file: Path | None = None
    unsupported: dict[str, str] = field(default_factory=dict)
    overridden: tuple[str, ...] = ()
    master: str = ""

    def feature(self, name: str) -> bool:
        """Return whether a feature gate of Kubernetes is on.

        Raises:
            KeyError: there is no such gate.
        """
        return feature_gates.enabled(name, self.configuration.feature_gates)

    @property
    def external_ips(self) -> bool:
        """Whether ``spec.externalIPs`` of Services count."""
        return self.feature("AllowServiceExternalIPs")


def settings_of(
    file: dict[str, Any] | None,
    flags: dict[str, Any],
    *,
    always: dict[str, Any] | None = None,
    config_file: Path | None = None,
    no_healthz: bool = False,
    no_metrics: bool = False,
    master: str = "",
) -> Settings:
    """Turn the fields of a file, or those of flags, into settings; pure.

    Args:
        file: of ``--config``; None: there is none. Flags do not count beside one, as in the peer.
        flags: fields as in a document.
        always: fields of flags that count in both cases.
        no_healthz, no_metrics: a flag said that nothing is to be served there.

    Raises:
        ConfigurationError: a field cannot be taken.
    """
    document = merge(merge({}, flags) if file is None else file, always or {})
    one = configuration.decode(document)
    configuration.set_defaults(one)
    if file is None:
        _set_zeros(one, flags)
        one.healthz_bind_address = "" if no_healthz else one.healthz_bind_address
        one.metrics_bind_address = "" if no_metrics else one.metrics_bind_address
    configuration.set_platform_defaults(one)
    one.hostname_override = one.hostname_override.strip().lower()
    found = validation.problems(one)
    if found:
        raise ConfigurationError("; ".join(found))
    return Settings(
        configuration=one, config_file=config_file, unsupported=_unsupported(one, document),
        master=master,
    )  # fmt: skip


def read_file(path: Path) -> dict[str, Any]:
    """Return the fields of a ``--config`` file.

    Raises:
        ConfigurationError: it cannot be read, is no KubeProxyConfiguration, or a field of it does
            not exist or is of another type.
    """
    document = read_document("--config", path, KIND, API_VERSION)
    try:
        configuration.decode(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"--config {path}: {error}") from None
    return document


def _set_zeros(one: KubeProxyConfiguration, flags: dict[str, Any]) -> None:
    """Set what a flag says to be zero: a zero in a file means the default, in a flag zero."""
    for part in ("iptables", "nftables"):
        said = flags.get(part) or {}
        if "minSyncPeriod" in said:
            spoken = configuration.decode({part: said})
            getattr(one, part).min_sync_period = getattr(spoken, part).min_sync_period


def _unsupported(one: KubeProxyConfiguration, document: dict[str, Any]) -> dict[str, str]:
    """Return the fields that were given, say something, and have no effect here."""
    usual = KubeProxyConfiguration()
    configuration.set_defaults(usual)
    # The verbosity is heeded.
    usual.logging.verbosity = one.logging.verbosity
    return {
        name: reason
        for name, reason in sorted(validation.UNSUPPORTED.items())
        if name in document and getattr(one, FIELDS[name]) != getattr(usual, FIELDS[name])
    }
