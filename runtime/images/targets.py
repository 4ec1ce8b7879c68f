"""Where a registry's answers may send the client: redirects, token services, layer URLs.

A registry is not trusted with the node's network position: its answers must not turn the client
into a tool against services that only the node can reach, nor move secrets to cleartext.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import Final

from yarl import URL

from runtime.images.errors import RegistryRefused
from runtime.images.settings import is_loopback

MAX_URL: Final = 8192
_LOOPBACK: Final = "an address of the node's own loopback"


def parse_url(text: str, base: URL | None = None) -> URL:
    """Parse a URL that a registry sent, relative to ``base`` if given.

    Raises:
        RegistryRefused: it is no HTTP URL with a host.
    """
    try:
        if len(text) > MAX_URL:
            raise ValueError(f"more than {MAX_URL} characters")
        # Redirects to storage are signed: their percent encoding must stay as it is.
        url = URL(text, encoded=True)
        if base is not None:
            url = base.join(url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("not an http or https URL with a host")
        if url.user is not None or url.password is not None:
            raise ValueError("it holds credentials")
        # Reading the port is what validates it.
        if url.port is None:
            raise ValueError("it has no port")
    except ValueError as error:
        shown = text[:200]
        raise RegistryRefused(f"the registry named the address {shown!r}: {error}") from None
    return url


def same_origin(one: URL, other: URL) -> bool:
    """Tell whether scheme, host and port agree: only then a secret for one may go to the other."""
    return one.origin() == other.origin()


def check_target(target: URL, registry: URL) -> None:
    """Refuse a URL that an answer of ``registry`` must not make the node request.

    Refused are cleartext from a registry that is reached by HTTPS, link-local and unspecified
    addresses (clouds serve the node's own credentials there), and loopback unless the registry is
    on loopback itself.

    Raises:
        RegistryRefused: it is one of these.
    """
    why = _refusal(target, registry)
    if why is not None:
        raise RegistryRefused(
            f"the registry {registry.host} sends this node to {target.origin()}: {why}; "
            "it is not followed"
        )


def _refusal(target: URL, registry: URL) -> str | None:
    if same_origin(target, registry):
        return None
    if registry.scheme == "https" and target.scheme != "https":
        return "cleartext HTTP, though the registry itself is reached by HTTPS"
    host = (target.host or "").rstrip(".")
    if is_loopback(registry.host or ""):
        # Then the node's loopback is where it belongs; other addresses are refused all the same.
        return None if is_loopback(host) else _refused_number(host, loopback=True)
    if is_loopback(host):
        return _LOOPBACK
    return _refused_number(host, loopback=False)


def refused_address(address: str) -> str | None:
    """Return why a registry that is not on loopback must not lead to ``address``, a number.

    Returns:
        None if it may.
    """
    return _refused_number(address.partition("%")[0], loopback=False)


def _refused_number(host: str, *, loopback: bool) -> str | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_link_local or address.is_unspecified or address.is_multicast:
        return "a link-local, unspecified or multicast address"
    if address.is_loopback and not loopback:
        return _LOOPBACK
    return None


def proxy_for(url: URL) -> URL | None:
    """Return the proxy that the environment names for ``url`` (HTTPS_PROXY, NO_PROXY), if any.

    aiohttp could do so itself, but would then also take passwords from ``~/.netrc``.
    """
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(url.scheme)
    return URL(proxy) if proxy else None
