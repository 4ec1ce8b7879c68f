"""All Ingresses become one site (pure).

Source: Kubernetes documentation, "Ingress": path types, multiple matches, hostname wildcards. Where
two Ingresses claim the same path of a host the older one has it, and the other one is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from .annotations import options_of
from .backends import BackendError, World, upstream_of
from .certificates import PairError, certificate_of
from .model import CLASS, CONTROLLER, Certificate, Host, Location, Options, Problem, Site, Upstream

_HOST: Final = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LEGACY: Final = "kubernetes.io/ingress.class"
_DEFAULT: Final = "ingressclass.kubernetes.io/is-default-class"
_MOST_PATHS: Final = 10_000
_LONGEST: Final = 1024
_UNAVAILABLE: Final = Upstream("", ())


def is_ours(ingress: Mapping[str, Any], classes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether this controller serves an Ingress: its class is ours, or it has none and ours is
    the default (pure)."""  # fmt: skip
    known = list(classes)
    ours = {
        one["metadata"]["name"]: one for one in known
        if (one.get("spec") or {}).get("controller") == CONTROLLER
    }  # fmt: skip
    named = (ingress.get("spec") or {}).get("ingressClassName")
    if named is not None:
        return named in ours
    legacy = (ingress["metadata"].get("annotations") or {}).get(_LEGACY)
    if legacy is not None:
        return legacy in ours or legacy == CLASS
    return any(
        (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"
        for one in ours.values()
    )  # fmt: skip


def age(ingress: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what Ingresses are sorted by: the oldest first (pure)."""
    meta = ingress["metadata"]
    return meta.get("creationTimestamp", ""), meta["namespace"], meta["name"]


@dataclass
class _Merging:
    """Takes one Ingress after the other, the oldest first."""

    world: World
    problems: list[Problem] = field(default_factory=list)
    paths: dict[tuple[str, str, bool], tuple[str, Location]] = field(default_factory=dict)
    certificates: dict[str, tuple[str, Certificate]] = field(default_factory=dict)
    tls: set[str] = field(default_factory=set)
    key: str = ""

    def tell(self, reason: str, message: str) -> None:
        """Take note of a problem of the Ingress at hand."""
        self.problems.append(Problem(self.key, reason, message))

    def take(self, ingress: Mapping[str, Any]) -> None:
        """Add an Ingress."""
        meta, spec = ingress["metadata"], ingress.get("spec") or {}
        namespace = meta["namespace"]
        self.key = f"{namespace}/{meta['name']}"
        options, wrong = options_of(ingress, self.world.secret)
        for message in wrong:
            self.tell("Annotation", message)
        names = self._rules(namespace, spec, options)
        if spec.get("defaultBackend"):
            upstream = self._upstream(namespace, spec["defaultBackend"], options)
            for name in names or [""]:
                # A rule for this very path comes before it, also one of a younger Ingress's host.
                if (name, "/", False) not in self.paths:
                    self.paths[name, "/", False] = (self.key, Location("/", False, upstream,
                                                                       options))  # fmt: skip
        self._tls(namespace, spec, names)

    def _rules(self, namespace: str, spec: Mapping[str, Any], options: Options) -> list[str]:
        names = []
        for rule in spec.get("rules") or ():
            name = (rule.get("host") or "").lower()
            if name and not (_HOST.fullmatch(name) and len(name) <= 253):
                self.tell("Rejected", f"host {name[:80]!r} is no DNS name")
                continue
            names.append(name)
            for path in (rule.get("http") or {}).get("paths") or ():
                self._path(namespace, name, path, options)
        return names

    def _path(self, namespace: str, host: str, given: Mapping[str, Any], options: Options) -> None:
        kind, text = given.get("pathType", "ImplementationSpecific"), given.get("path") or "/"
        path = unquote(text)
        if not path.startswith("/") or not path.isprintable() or len(path) > _LONGEST:
            self.tell("Rejected", f"path {text[:80]!r} cannot be served")
            return
        exact = kind == "Exact"
        if not exact:
            path = path.rstrip("/") or "/"
        if len(self.paths) >= _MOST_PATHS:
            self.tell("Rejected", f"there are {_MOST_PATHS} paths already")
            return
        before = self.paths.get((host, path, exact))
        if before is not None and before[0] != self.key:
            self.tell("Conflict", f"path {text} of host {host or '*'} is that of {before[0]}")
            return
        upstream = self._upstream(namespace, given.get("backend") or {}, options)
        self.paths[host, path, exact] = (self.key, Location(path, exact, upstream, options))

    def _upstream(self, namespace: str, backend: Mapping[str, Any], options: Options) -> Upstream:
        try:
            return upstream_of(namespace, backend, self.world, direct=options.direct)
        except BackendError as error:
            self.tell("Backend", f"requests get 503: {error}")
            return _UNAVAILABLE

    def _tls(self, namespace: str, spec: Mapping[str, Any], names: list[str]) -> None:
        for entry in spec.get("tls") or ():
            hosts = [one.lower() for one in entry.get("hosts") or names]
            self.tls.update(hosts)
            secret = entry.get("secretName")
            if not secret:
                continue
            try:
                certificate = certificate_of(namespace, secret, self.world.secret)
            except PairError as error:
                self.tell("Certificate", f"the default certificate is shown: {error}")
                continue
            for host in hosts:
                before = self.certificates.setdefault(host, (self.key, certificate))
                if before[1] != certificate:
                    self.tell("Conflict", f"the certificate of {host} is that of {before[0]}")

    def site(self) -> Site:
        """Return what all of them give together."""
        by_host: dict[str, list[Location]] = {}
        for (host, _, _), (_, location) in self.paths.items():
            by_host.setdefault(host, []).append(location)
        hosts = []
        for name, locations in sorted(by_host.items()):
            locations.sort(key=lambda one: (one.path, one.exact))
            certificate = self._certificate(name)
            hosts.append(Host(name, tuple(locations), certificate, self._has_tls(name)))
        return Site(tuple(hosts))

    def _certificate(self, name: str) -> Certificate | None:
        found = self.certificates.get(name) or self.certificates.get(_wildcard(name))
        return found[1] if found else None

    def _has_tls(self, name: str) -> bool:
        return name in self.tls or _wildcard(name) in self.tls


def _wildcard(name: str) -> str:
    """Return the wildcard that a name fits; "*" for what has none."""
    return f"*.{name.partition('.')[2]}" if "." in name and not name.startswith("*") else "*"


def merged(ingresses: Iterable[Mapping[str, Any]], world: World) -> tuple[Site, list[Problem]]:
    """Return the site that Ingresses give together, and what cannot be served as they say.

    Args:
        ingresses: those that are ours.
        world: what they name.
    """
    merging = _Merging(world)
    for ingress in sorted(ingresses, key=age):
        merging.take(ingress)
    return merging.site(), merging.problems
