"""Follows Ingresses and what they name, and lets nginx serve them."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller, monotonic
from controlplane.engine.resources import (
    INGRESS_CLASSES,
    INGRESSES,
    SECRETS,
    SERVICES,
    SLICES,
    Object,
    key_of,
)
from kubeletpy_common.apiclient.errors import ApiError

from .backends import World
from .merging import is_ours, merged
from .model import CLASS, CONTROLLER, Problem
from .nginx import Nginx, NginxError, RefusedError
from .refusals import Refusals
from .rendering import Listening

_ALL: Final = "all"
_PAUSE: Final = 0.5
"""Seconds between two reloads at least: each is a generation of workers."""
_SERVICE: Final = "kubernetes.io/service-name"
_DEFAULT: Final = "ingressclass.kubernetes.io/is-default-class"
RUN_DIRECTORY: Final = Path("/run/kubeletpy/ingress")


class IngressController(Controller):
    """Serves the Ingresses of its class.

    Options of the context: ``ingress_addresses``, ``ingress_http_port``, ``ingress_https_port``,
    ``ingress_directory``, ``ingress_user``, ``ingress_nginx``, and ``ingress_publish_addresses``,
    which are written into the status of Ingresses.
    """

    name: ClassVar[str] = "ingress-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        option = context.options.get
        self.nginx = Nginx(
            Listening(
                tuple(option("ingress_addresses") or ("0.0.0.0", "::")),
                option("ingress_http_port", 80),
                option("ingress_https_port", 443),
                Path(option("ingress_directory") or RUN_DIRECTORY),
                option("ingress_user", "www-data"),
            ),
            option("ingress_nginx", "nginx"),
        )
        self._refusals = Refusals(self.nginx.refusal)
        self._published: Sequence[str] = tuple(option("ingress_publish_addresses") or ())
        of = context.informers.of
        self._ingresses, self._classes = of(INGRESSES), of(INGRESS_CLASSES)
        self._services, self._slices, self._secrets = of(SERVICES), of(SLICES), of(SECRETS)
        self._slices.index("service", service_of)
        self._named: set[tuple[str, str, str]] = set()
        self._told: frozenset[Problem] = frozenset()
        self._applied = float("-inf")
        for informer in (self._ingresses, self._classes):
            informer.listen(lambda *_: self.queue.add(_ALL))
        self._services.listen(lambda *both: self._changed("service", *both))
        self._secrets.listen(lambda *both: self._changed("secret", *both))
        self._slices.listen(self._slice_changed)

    async def run(self) -> None:
        """Work, until cancelled; nginx ends then.

        Raises:
            NginxError: nginx cannot be had.
        """
        self.nginx.prepare()
        await self.context.informers.synced()
        await self._ensure_class()
        self.queue.add(_ALL)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.nginx.run(), name="nginx")
                tasks.create_task(self.queue.run(), name=self.name)
        finally:
            self.nginx.clean()

    async def sync(self, key: str) -> float | None:
        """Serve what is there now; see `Controller.sync`."""
        wait = self._applied + _PAUSE - monotonic()
        if wait > 0:
            return wait
        ours = [one for one in self._ingresses if is_ours(one, self._classes)]
        self._named = set()
        try:
            problems = await self._serve(ours)
        except NginxError as error:
            for one in ours:
                self.context.recorder.warning(one, "Rejected", str(error))
            raise
        self._tell(problems)
        for one in ours:
            await self._publish(one)
        return None

    async def _serve(self, ours: Sequence[Object]) -> list[Problem]:
        """Have nginx serve these, but for those that it refuses; return what is to be told.

        Raises:
            NginxError: it cannot be asked.
        """
        world = World(self._service, self._slices_of, self._secret)
        site, problems = merged(self._refusals.without(ours, world), world)
        try:
            changed = await self.nginx.apply(site)
        except RefusedError:
            await self._refusals.find(self._refusals.without(ours, world), world)
            site, problems = merged(self._refusals.without(ours, world), world)
            changed = await self.nginx.apply(site)
        if changed:
            self._applied = monotonic()
        return [*problems, *self._refusals.problems()]

    def _tell(self, problems: list[Problem]) -> None:
        """Tell what is wrong, once."""
        for problem in problems:
            ingress = self._ingresses.get(problem.ingress)
            if problem not in self._told and ingress is not None:
                self.context.recorder.warning(ingress, problem.reason, problem.message)
        self._told = frozenset(problems)

    async def _publish(self, ingress: Object) -> None:
        wanted = [{"ip": address} for address in self._published]
        status = (ingress.get("status") or {}).get("loadBalancer") or {}
        if not wanted or (status.get("ingress") or []) == wanted:
            return
        try:
            await self.context.writer.patch(
                INGRESSES, ingress, {"status": {"loadBalancer": {"ingress": wanted}}},
                subresource="status",
            )  # fmt: skip
        except ApiError as error:
            if not error.not_found:
                raise

    async def _ensure_class(self) -> None:
        """Make a class of ours where there is none; the default one if no other is."""
        if any((one.get("spec") or {}).get("controller") == CONTROLLER for one in self._classes):
            return
        default = any(
            (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"
            for one in self._classes
        )  # fmt: skip
        meta: dict[str, Any] = {"name": CLASS}
        if not default:
            meta["annotations"] = {_DEFAULT: "true"}
        try:
            await self.context.writer.create(
                INGRESS_CLASSES, {"metadata": meta, "spec": {"controller": CONTROLLER}}
            )
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    def _service(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        self._named.add(("service", namespace, name))
        return self._services.find(namespace, name)

    def _slices_of(self, namespace: str, name: str) -> Sequence[Mapping[str, Any]]:
        self._named.add(("slices", namespace, name))
        return self._slices.indexed("service", f"{namespace}/{name}")

    def _secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        self._named.add(("secret", namespace, name))
        found = self._secrets.find(namespace, name)
        try:
            return None if found is None else {
                key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()
            }  # fmt: skip
        except binascii.Error:
            return None

    def _changed(self, kind: str, before: Object | None, value: Object | None) -> None:
        found = value or before
        assert found is not None
        namespace, _, name = key_of(found).partition("/")
        if (kind, namespace, name) in self._named:
            self.queue.add(_ALL)

    def _slice_changed(self, before: Object | None, value: Object | None) -> None:
        for one in (before, value):
            for key in service_of(one) if one is not None else ():
                namespace, _, name = key.partition("/")
                if ("slices", namespace, name) in self._named:
                    self.queue.add(_ALL)


def service_of(endpoint_slice: Object) -> list[str]:
    """Return the key of the Service of an EndpointSlice (pure)."""
    meta = endpoint_slice["metadata"]
    name = (meta.get("labels") or {}).get(_SERVICE)
    return [f"{meta['namespace']}/{name}"] if name else []
