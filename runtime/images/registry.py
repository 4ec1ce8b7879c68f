"""A client of the OCI distribution API: the manifests and blobs of one repository.

github.com/opencontainers/distribution-spec, spec.md, "Pull". Made for one pull: tokens live as
long as the object does and are shared with nobody.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from runtime.images.authentication import Authenticator
from runtime.images.digests import digest_bytes, verify
from runtime.images.endpoints import Endpoint, credentials_for, upstream
from runtime.images.errors import DigestMismatch, ImageNotFound, RegistryRefused
from runtime.images.manifest import INDEX_TYPES, MANIFEST_TYPES, MAX_DOCUMENT, Descriptor
from runtime.images.reference import is_digest
from runtime.images.settings import Credentials
from runtime.images.targets import check_target, parse_url, same_origin
from runtime.images.transport import CONNECTION_ERRORS, Transport, explain, is_final, wrap
from runtime.images.tries import Tries, is_away

_ACCEPT: Final = ", ".join(sorted(INDEX_TYPES) + sorted(MANIFEST_TYPES))
_GOOD = frozenset({200, 206, 416})


class RetryableAnswer(Exception):
    """The registry answered that another try may succeed."""

    def __init__(self, why: str, retry_after: str | None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Document:
    """A manifest or index as it was fetched, verified if its digest was known before."""

    data: bytes
    digest: str
    media_type: str


class Repository:
    """One repository at one registry (or mirror)."""

    def __init__(
        self,
        transport: Transport,
        domain: str,
        path: str,
        credentials: Credentials | None,
        endpoint: Endpoint | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            transport: shared by all pulls.
            domain: ``host[:port]`` of the registry.
            path: the repository's name there.
            credentials: used only if the endpoint may see them.
            endpoint: where the registry's images are asked for; None: at the registry itself.
        """
        self.endpoint = endpoint or upstream(transport.config, domain)
        self.name = (
            f"{self.endpoint.host}/{path}" if self.endpoint.namespace else f"{domain}/{path}"
        )
        self.transport = transport
        self.attempts = self.endpoint.attempts or transport.config.attempts
        self._path = path
        self._credentials = credentials_for(self.endpoint, domain, credentials)
        self._query = {"ns": self.endpoint.namespace} if self.endpoint.namespace else {}
        self._unsettled = self.endpoint.https_first
        self._settling = asyncio.Lock()
        self._use(self.endpoint.root.replace("http://", "https://", 1) if self._unsettled
                  else self.endpoint.root)  # fmt: skip

    def _use(self, root: str) -> None:
        self._registry = URL(root, encoded=True)
        self._base = f"{root}/{self._path}"
        # A root with a path behind /v2 (override_path) makes that a part of the name.
        prefix = root.partition("/v2/")[2]
        scope = f"{prefix}/{self._path}" if prefix else self._path
        self._auth = Authenticator(
            self.transport,
            self._registry,
            self.endpoint,
            self._credentials,
            f"repository:{scope}:pull",
        )

    async def _settled(self, url: URL) -> URL:
        """Find out whether a host with TLS settings but an HTTP address speaks TLS, once.

        Returns ``url`` with the scheme that is spoken.
        """
        own = url.raw_authority == self._registry.raw_authority
        async with self._settling:
            if self._unsettled:
                try:
                    async with self.transport.open(
                        "GET", self._registry / "", registry=self._registry,
                        endpoint=self.endpoint, headers={},
                    ):  # fmt: skip
                        pass
                except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError):
                    # It does, so it is no case for cleartext.
                    pass
                except (aiohttp.ClientConnectorSSLError, ssl.SSLError):
                    self._use(self.endpoint.root)
                except CONNECTION_ERRORS:
                    return url
                self._unsettled = False
        return url.with_scheme(self._registry.scheme) if own else url

    def _url(self, kind: str, reference: str) -> URL:
        url = URL(f"{self._base}/{kind}/{reference}", encoded=True)
        return url.with_query(self._query) if self._query else url

    async def digest_of_tag(self, tag: str) -> str | None:
        """Ask what a tag stands for, without fetching it; None: the registry does not say.

        Raises:
            ImageError: one of its subclasses.
        """
        what = f"manifest of {self.name}:{tag}"
        headers = {"Accept": _ACCEPT}
        url = self._url("manifests", tag)
        try:
            _, answer = await self._fetch_small(url, headers, 0, what, "HEAD")
        except RegistryRefused:
            # Some answer 405 to this method; GET tells what is really the matter.
            return None
        declared = answer.get("Docker-Content-Digest", "")
        return declared if is_digest(declared) else None

    async def manifest(self, reference: str, expected_size: int | None = None) -> Document:
        """Fetch a manifest or index by tag or digest; by digest it is verified.

        Args:
            reference: a tag or a digest.
            expected_size: its size in bytes, when a descriptor told it.

        Raises:
            ImageError: one of its subclasses, naming the repository and the reference.
        """
        digest = reference if is_digest(reference) else None
        what = f"{self.name}{'@' if digest else ':'}{reference}"
        url = self._url("manifests", reference)
        headers = {"Accept": _ACCEPT}
        data, answer = await self._fetch_small(url, headers, MAX_DOCUMENT, f"manifest of {what}")
        declared = answer.get("Docker-Content-Digest", "")
        # The tag's own digest is what a cache or proxy on the way cannot have altered unseen.
        expected = digest or (declared if is_digest(declared) else None)
        if expected is not None:
            verify(data, expected, f"manifest of {what}")
        if expected_size is not None and len(data) != expected_size:
            raise DigestMismatch(
                f"manifest of {what} has {len(data)} bytes, its index says {expected_size}"
            )
        return Document(data, expected or digest_bytes(data), answer.get("Content-Type", ""))

    async def small_blob(self, blob: Descriptor, what: str) -> bytes:
        """Fetch a blob of at most 4 MiB into memory, verified.

        Raises:
            ImageError: one of its subclasses.
        """
        what = f"{what} {blob.digest} of {self.name}"
        url = self._url("blobs", blob.digest)
        data, _ = await self._fetch_small(url, {}, min(blob.size, MAX_DOCUMENT) + 1, what)
        if len(data) != blob.size:
            raise DigestMismatch(f"{what} has {len(data)} bytes, the manifest says {blob.size}")
        verify(data, blob.digest, what)
        return data

    async def _fetch_small(
        self, url: URL, headers: Mapping[str, str], limit: int, what: str, method: str = "GET"
    ) -> tuple[bytes, Mapping[str, str]]:
        tries = Tries(self.transport.config, self.attempts)
        while True:
            retry_after = None
            try:
                async with self.get(url, headers, what, method) as response:
                    data = await self.transport.read(response, limit, what)
                    return data, response.headers
            except RetryableAnswer as error:
                why, retry_after = str(error), error.retry_after
            except CONNECTION_ERRORS as error:
                if is_final(error) or is_away(error):
                    raise wrap(error, what) from None
                why = explain(error)
            await self.transport.again(tries, what, why, retry_after)

    def blob_sources(self, blob: Descriptor) -> list[URL]:
        """Return where a blob may be: the repository, then what its descriptor names."""
        urls = [parse_url(text) for text in blob.urls]
        return [self._url("blobs", blob.digest), *urls]

    @asynccontextmanager
    async def get(
        self, url: URL, headers: Mapping[str, str], what: str, method: str = "GET"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request ``url``, once, answering the registry's (and only its) challenges.

        Yields an answer of status 200, 206 or 416.

        Raises:
            RetryableAnswer: the registry is busy or broken.
            ImageNotFound, Unauthorized, RegistryRefused: it said so.
            aiohttp.ClientError, TimeoutError, OSError: the connection failed.
        """
        if self.endpoint.https_first:
            url = await self._settled(url)
        own = same_origin(url, self._registry)
        if not own:
            check_target(url, self._registry)
        for last in (False, False, True):
            async with self.transport.open(
                method,
                url,
                registry=self._registry,
                endpoint=self.endpoint,
                headers=headers,
                authorization=self._auth.header() if own else None,
            ) as response:
                if response.status in _GOOD:
                    yield response
                    return
                ours = same_origin(response.url, self._registry)
                challenges = response.headers.getall("WWW-Authenticate", [])
                if response.status != 401 or last or not ours or not challenges:
                    await self._fail(response, what)
            if not await self._auth.answer(list(challenges), what):
                raise self._auth.refusal(what, "401 Unauthorized")

    async def _fail(self, response: aiohttp.ClientResponse, what: str) -> None:
        complaint = await self.transport.complaint(response)
        status = response.status
        if status in (401, 403):
            raise self._auth.refusal(what, complaint)
        if status in (404, 410):
            raise ImageNotFound(f"{what}: not found at {response.url.origin()}: {complaint}")
        if self.transport.retried(status):
            raise RetryableAnswer(complaint, response.headers.get("Retry-After"))
        raise RegistryRefused(f"{what}: {response.url.origin()} answered {complaint}")


def repositories(
    transport: Transport,
    places: Sequence[Endpoint],
    domain: str,
    path: str,
    credentials: Credentials | None,
) -> list[Repository]:
    """Return ``domain/path`` at each of ``places``.

    Nothing a mirror serves by digest can be false; what it says of a tag is believed, as the
    administrator chose it.
    """
    return [Repository(transport, domain, path, credentials, place) for place in places]
