"""Credential-provider plugins: programs that know the password of a registry.

https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/ : a request goes to
the program's standard input, an answer comes from its standard output, both JSON of the group
``credentialprovider.kubelet.k8s.io``. Answers are kept as long as they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubeletpy.api.pod import Pod
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.settings.durations import duration as parse_duration

from .keyring import Credential, Keyring, Source, matches
from .plugin_config import CACHE_BY_TOKEN, ProviderConfig, TokenAttributes

_log = logging.getLogger(__name__)
TIMEOUT = 60.0
"""Seconds that a plugin may take."""
LARGEST_ANSWER = 1024 * 1024
MOST_CACHED = 1000
_GLOBAL = "<global>"


class PluginError(Exception):
    """A plugin that gave no credentials though it should have."""


class Plugin:
    """One plugin.

    Args:
        config: what the configuration says of it.
        binary: the program.
        client: of the API server, for tokens of service accounts; None: standalone.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        config: ProviderConfig,
        binary: Path,
        client: ApiClient | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._binary = binary
        self._client = client
        self._clock = clock
        self._cache: dict[tuple[str, str], tuple[float, dict[str, tuple[str, str]]]] = {}
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def provide(self, pod: Pod, image: str) -> list[Credential]:
        """Return the credentials for a repository, [] if the plugin has none for it or fails."""
        if not any(matches(pattern, image) for pattern in self._config.match_images):
            return []
        try:
            return await self._provide(pod, image)
        except (PluginError, ApiError, OSError, ValueError) as error:
            logs.event(
                _log, logging.ERROR, "credential-provider plugin failed",
                plugin=self._config.name, image=image, pod=pod.metadata.name, reason=str(error),
            )  # fmt: skip
            return []

    async def _provide(self, pod: Pod, image: str) -> list[Credential]:
        request: dict[str, Any] = {"image": image}
        source, scope = None, ""
        attributes = self._config.token_attributes
        if attributes is not None:
            account = pod.spec.service_account_name
            if not account and attributes.require_service_account:
                return []
            if account:
                bound = await self._bind(pod, account, attributes)
                if bound is None:
                    return []
                source, token, annotations = bound
                request["serviceAccountToken"] = token
                if annotations:
                    request["serviceAccountAnnotations"] = annotations
                scope = _scope(attributes, source, annotations, token)
        entries = self._cached(image, scope)
        if entries is None:
            entries = await self._ask(image, scope, request)
        keyring = Keyring()
        keyring.add(entries, source)
        return keyring.lookup(image)

    async def _bind(
        self, pod: Pod, account: str, attributes: TokenAttributes
    ) -> tuple[Source, str, dict[str, str]] | None:
        """Return the service account, a token of it, and what the plugin wants to know of it."""
        if self._client is None:
            return None
        namespace = pod.metadata.namespace
        path = object_path("v1", "serviceaccounts", namespace, account)
        found = await self._client.get(path)
        meta = found.get("metadata") or {}
        given = meta.get("annotations") or {}
        if any(key not in given for key in attributes.required_keys):
            return None
        wanted = (*attributes.required_keys, *attributes.optional_keys)
        annotations = {key: given[key] for key in wanted if key in given}
        uid = str(meta.get("uid", ""))
        answer = await self._client.create(
            f"{path}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "metadata": {"uid": uid},
                "spec": {
                    "audiences": [attributes.audience],
                    "boundObjectRef": {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": pod.metadata.name,
                        "uid": pod.metadata.uid,
                    },
                },
            },
        )
        token = str((answer.get("status") or {}).get("token", ""))
        return Source("ServiceAccount", uid, namespace, account), token, annotations

    def _cached(self, image: str, scope: str) -> dict[str, tuple[str, str]] | None:
        now = self._clock()
        for key in (image, image.partition("/")[0], _GLOBAL):
            expires, entries = self._cache.get((key, scope), (0.0, {}))
            if now < expires:
                return entries
        return None

    async def _ask(
        self, image: str, scope: str, request: Mapping[str, Any]
    ) -> dict[str, tuple[str, str]]:
        # Pods that need the same image at once wait for one run of the plugin.
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(
                self._run(request), name=f"credential provider {self._config.name}"
            )
            task.add_done_callback(lambda _: self._running.pop(key, None))
        answer = await asyncio.shield(task)
        auth = answer.get("auth") or {}
        entries = {
            str(registry): (str(one.get("username", "")), str(one.get("password", "")))
            for registry, one in auth.items()
        }
        attributes, token = self._config.token_attributes, request.get("serviceAccountToken")
        by_account = attributes is not None and attributes.cache_type != CACHE_BY_TOKEN
        if token and by_account and any(password == token for _, password in entries.values()):
            raise PluginError(
                "it returned the service account token as the password, which is allowed only "
                "with cacheType Token"
            )
        self._keep(answer, image, scope, entries)
        return entries

    def _keep(
        self,
        answer: Mapping[str, Any],
        image: str,
        scope: str,
        entries: dict[str, tuple[str, str]],
    ) -> None:
        kind = answer.get("cacheKeyType")
        keys = {"Image": image, "Registry": image.partition("/")[0], "Global": _GLOBAL}
        if kind not in keys:
            raise PluginError(f"it did not return a valid cacheKeyType: {kind!r}")
        duration = answer.get("cacheDuration")
        seconds = self._config.cache_seconds if duration is None else parse_duration(duration)
        now = self._clock()
        if seconds <= 0:
            return
        for old in [old for old, (expires, _) in self._cache.items() if expires <= now]:
            del self._cache[old]
        while len(self._cache) >= MOST_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[keys[kind], scope] = (now + seconds, entries)

    async def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run the program once and return its answer.

        Raises:
            PluginError: it failed, took too long, or answered nonsense.
            OSError: it cannot be started.
        """
        config = self._config
        head = {"apiVersion": config.api_version, "kind": "CredentialProviderRequest"}
        process = await asyncio.create_subprocess_exec(
            self._binary, *config.args,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, **dict(config.env)},
            start_new_session=True, limit=LARGEST_ANSWER,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await process.communicate(json.dumps({**head, **request}).encode())
        except TimeoutError:
            raise PluginError(f"{self._binary} did not answer within {TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await process.wait()
        if process.returncode != 0:
            text = err[-500:].decode(errors="replace").strip()
            raise PluginError(f"{self._binary} exited with {process.returncode}: {text}")
        return _answer(out, config.api_version)


def _answer(content: bytes, api_version: str) -> dict[str, Any]:
    if len(content) > LARGEST_ANSWER:
        raise PluginError(f"its answer is longer than {LARGEST_ANSWER} bytes")
    try:
        answer = json.loads(content)
    except ValueError:
        raise PluginError("its answer is no JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "CredentialProviderResponse":
        raise PluginError("its answer is no CredentialProviderResponse")
    if answer.get("apiVersion") != api_version:
        version = answer.get("apiVersion")
        raise PluginError(f"it answered by {version!r} what was asked by {api_version!r}")
    auth = answer.get("auth")
    if auth is not None and not (
        isinstance(auth, dict) and all(isinstance(one, dict) for one in auth.values())
    ):
        raise PluginError("auth of its answer is no object of registries")
    return answer


def _scope(
    attributes: TokenAttributes, source: Source, annotations: Mapping[str, str], token: str
) -> str:
    """Return what a cached answer is good for besides its image: an account, or one token."""
    parts = [source.namespace, source.name, source.uid, sorted(annotations.items())]
    if attributes.cache_type == CACHE_BY_TOKEN:
        parts.append(hashlib.sha256(token.encode()).hexdigest())
    return json.dumps(parts)
