"""What annotations of an Ingress ask for (pure).

Everything here comes from users, and ends in a configuration file: each value is either of a form
that cannot mean anything else there, or refused with a message.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from .model import PREFIX, BasicAuth, Limits, Options

Secrets = Callable[[str, str], Mapping[str, bytes] | None]
"""Returns the data of a Secret by namespace and name; None: there is none."""

_SIZE: Final = re.compile(r"\d{1,9}[kKmMgG]?")
_REALM: Final = re.compile(r"[A-Za-z0-9 .,:;!?()/_@'-]{1,200}")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!&()*+,=:@/-]*")
_USER: Final = re.compile(r"[^\s:#][^\s:]{0,254}:[!-~]{1,512}")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SECONDS: Final = re.compile(r"\d{1,6}")
_MULTIPLIER: Final = 5
_MOST: Final = 1_000_000


class AnnotationError(ValueError):
    """A value that cannot be taken; the message says why."""


class _Reading:
    """Reads one Ingress's annotations."""

    def __init__(
        self, namespace: str, name: str, given: Mapping[str, str], secrets: Secrets
    ) -> None:
        self.namespace = namespace
        self.given = given
        self.secrets = secrets
        self.zone = f"z{hashlib.sha256(f'{namespace}/{name}'.encode()).hexdigest()[:16]}"

    def auth_basic(self) -> BasicAuth | None:
        """Return who may come in.

        Raises:
            AnnotationError: it is asked for, and cannot be kept.
        """
        kind = self.given.get("auth-type", "")
        if not kind:
            if "auth-secret" in self.given:
                raise AnnotationError("auth-secret needs auth-type: basic")
            return None
        if kind != "basic":
            raise AnnotationError(f"auth-type {kind!r} is not supported, only basic")
        realm = self.given.get("auth-realm", "Authentication required")
        if not _REALM.fullmatch(realm):
            raise AnnotationError("auth-realm has characters that are not taken")
        return BasicAuth(realm, self._users())

    def _users(self) -> str:
        namespace, _, name = self.given.get("auth-secret", "").rpartition("/")
        if not _NAME.fullmatch(name):
            raise AnnotationError("auth-secret names no Secret")
        if namespace not in ("", self.namespace):
            raise AnnotationError("auth-secret is of another namespace")
        data = self.secrets(self.namespace, name)
        if data is None:
            raise AnnotationError(f"auth-secret: there is no Secret {self.namespace}/{name}")
        kind = self.given.get("auth-secret-type", "auth-file")
        if kind == "auth-file":
            if "auth" not in data:
                raise AnnotationError(f"Secret {name} has no key auth, with lines of htpasswd")
            lines = data["auth"].decode(errors="replace").splitlines()
        elif kind == "auth-map":
            lines = [f"{user}:{text.decode(errors='replace')}" for user, text in data.items()]
        else:
            raise AnnotationError(f"auth-secret-type {kind!r} is neither auth-file nor auth-map")
        lines = [line for line in (one.strip() for one in lines) if line and line[0] != "#"]
        if not lines or not all(_USER.fullmatch(line) for line in lines):
            raise AnnotationError(f"Secret {name} has no lines of the form NAME:HASH, or others")
        return "".join(f"{line}\n" for line in lines)

    def networks(self, name: str) -> tuple[str, ...]:
        """Return a list of networks.

        Raises:
            AnnotationError: one is none.
        """
        words = [one.strip() for one in self.given.get(name, "").split(",") if one.strip()]
        try:
            return tuple(str(ipaddress.ip_network(one, strict=False)) for one in words)
        except ValueError as error:
            raise AnnotationError(f"{name}: {error}") from None

    def number(self, name: str) -> int:
        """Return a number, 0 if it is not given.

        Raises:
            AnnotationError: it is none.
        """
        text = self.given.get(name, "0")
        if not _SECONDS.fullmatch(text):
            raise AnnotationError(f"{name} {text!r} is no number from 0 to {_MOST - 1}")
        return int(text)

    def limits(self) -> Limits | None:
        """Return how much one address may ask for.

        Raises:
            AnnotationError: a value is none.
        """
        second, minute = self.number("limit-rps"), self.number("limit-rpm")
        connections = self.number("limit-connections")
        exempt = (*self.networks("limit-whitelist"), *self.networks("limit-allowlist"))
        if not (second or minute or connections):
            return None
        factor = self.number("limit-burst-multiplier") or _MULTIPLIER
        burst = min((second or minute) * factor, _MOST)
        return Limits(self.zone, second, minute, burst, connections, exempt)

    def guards(self) -> Options:
        """Return what keeps requests out.

        Raises:
            AnnotationError: a value is none.
        """
        allowed = (*self.networks("whitelist-source-range"),
                   *self.networks("allowlist-source-range"))  # fmt: skip
        return Options(
            auth=self.auth_basic(),
            limits=self.limits(),
            allowed=allowed,
            denied=self.networks("denylist-source-range"),
        )

    def truth(self, name: str) -> bool | None:
        """Return what is said, None if nothing is.

        Raises:
            AnnotationError: it is neither true nor false.
        """
        text = self.given.get(name)
        if text not in (None, "true", "false"):
            raise AnnotationError(f"{name} {text!r} is neither true nor false")
        return None if text is None else text == "true"

    def redirect(self) -> str:
        """Return when clients are sent to HTTPS.

        Raises:
            AnnotationError: a value is none.
        """
        if self.truth("force-ssl-redirect"):
            return "always"
        return "never" if self.truth("ssl-redirect") is False else ""

    def text(self, name: str, form: re.Pattern[str]) -> str:
        """Return a text of a form, "" if it is not given.

        Raises:
            AnnotationError: it has another form.
        """
        text = self.given.get(name, "")
        if text and not form.fullmatch(text):
            raise AnnotationError(f"{name} {text[:80]!r} is not of a form that is taken")
        return text

    def protocol(self) -> bool:
        """Return whether the backend speaks TLS.

        Raises:
            AnnotationError: it is another protocol.
        """
        text = self.given.get("backend-protocol", "HTTP").upper()
        if text not in ("HTTP", "HTTPS"):
            raise AnnotationError(f"backend-protocol {text[:20]!r} is neither HTTP nor HTTPS")
        return text == "HTTPS"


_KNOWN: Final = frozenset({
    "auth-type", "auth-secret", "auth-secret-type", "auth-realm", "limit-rps", "limit-rpm",
    "limit-connections", "limit-burst-multiplier", "limit-whitelist", "limit-allowlist",
    "whitelist-source-range", "allowlist-source-range", "denylist-source-range", "ssl-redirect",
    "force-ssl-redirect", "rewrite-target", "proxy-body-size", "proxy-connect-timeout",
    "proxy-read-timeout", "proxy-send-timeout", "backend-protocol", "service-upstream",
})  # fmt: skip


def options_of(ingress: Mapping[str, Any], secrets: Secrets) -> tuple[Options, list[str]]:
    """Return what the annotations of an Ingress say, and what is wrong with them (pure).

    What is wrong and does not guard anything is left out; a guard that cannot be kept blocks.
    """
    meta = ingress["metadata"]
    found = {
        name.removeprefix(PREFIX): text
        for name, text in (meta.get("annotations") or {}).items()
        if name.startswith(PREFIX)
    }
    reading = _Reading(meta["namespace"], meta["name"], found, secrets)
    problems = [f"annotation {PREFIX}{name} is not known and has no effect"
                for name in sorted(found.keys() - _KNOWN)]  # fmt: skip
    try:
        options = reading.guards()
    except AnnotationError as error:
        return Options(blocked=str(error)), [*problems, f"all requests get 503: {error}"]
    readers: dict[str, Callable[[], Any]] = {
        "redirect": reading.redirect,
        "rewrite": lambda: reading.text("rewrite-target", _PATH),
        "body": lambda: reading.text("proxy-body-size", _SIZE).lower(),
        "connect": lambda: reading.number("proxy-connect-timeout"),
        "read": lambda: reading.number("proxy-read-timeout"),
        "send": lambda: reading.number("proxy-send-timeout"),
        "tls": reading.protocol,
        "direct": lambda: reading.truth("service-upstream") is False,
    }
    for name, read in readers.items():
        try:
            options = replace(options, **{name: read()})
        except AnnotationError as error:
            problems.append(f"annotation without effect: {error}")
    return options, problems
