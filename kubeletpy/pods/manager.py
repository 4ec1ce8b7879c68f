"""All pods of the node: which worker runs, and what wakes it.

One instance of a static pod (namespace and name) lives at any time: one that changes has its old
instance ended and removed before the new one starts, and of many changes meanwhile only the last
one counts. A change of a pod of the API server reaches the worker that runs it.

Several sources are merged. What a source has not spoken about yet stays as it is: pods of the API
server that an earlier kubelet ran go on from their checkpoints while the API server is away, and
nothing found on the node counts as unwanted before every source has been heard.

A kubelet owns the runtime behind its socket, as in Kubernetes: whatever there carries the labels of
a pod and is wanted by no source is ended and removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from kubeletpy.admission.predicates import Refusal
from kubeletpy.api.base import now
from kubeletpy.api.events import WARNING
from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.api.status import PodStatus
from kubeletpy.cri import labels
from kubeletpy.resources.qos import qos_class
from kubeletpy.sources.updates import (
    FILE_SOURCE,
    PodUpdates,
    SourceError,
    from_api,
    pod_key,
    source_of,
    version_of,
)
from kubeletpy.why.story import Known
from kubeletpy_common import logs

from .backoff import CrashLoop
from .checkpoint import Saved
from .observe import Identity
from .plan import DeadContainers, Desired
from .restarts import every_container
from .runtime_watch import RELIST_RETRY, RuntimeWatch
from .state import frozen
from .tools import Tools
from .wanted import Wanted, slot_of
from .worker import PodWorker
from .workers import Workers

_log = logging.getLogger(__name__)
Admit = Callable[[Pod, Sequence[Pod]], Awaitable[Refusal | None]]


def desired_of(pod: Pod, crash_loop: CrashLoop, dead: DeadContainers | None = None) -> Desired:
    """Return a pod as its worker takes it."""
    hashes = {one.name: labels.container_hash(one) for one in every_container(pod)}
    return Desired(pod, frozen(hashes), crash_loop, dead or DeadContainers())


class PodManager:
    """Starts, wakes and ends workers.

    Args:
        tools: what all workers share.
        crash_loop: limits of the back-off of containers.
        published: called with each new status of a pod.
        gone: called with a pod of which nothing is left on the node.
        dead: which dead containers are kept.
    """

    def __init__(
        self,
        tools: Tools,
        crash_loop: CrashLoop | None = None,
        published: Callable[[Pod, PodStatus], None] | None = None,
        gone: Callable[[Pod], None] | None = None,
        dead: DeadContainers | None = None,
    ) -> None:
        self._dead = dead or DeadContainers()
        self._tools = tools
        self._crash_loop = crash_loop or CrashLoop()
        self._published = published
        self._gone = gone
        self._desired = Wanted()
        self.workers = Workers()
        """Of the pods that were started."""
        self._runtime = RuntimeWatch(tools, self.workers.refresh, self._on_list)
        self._saved: dict[str, Saved] = {}
        self._expected: frozenset[str] = frozenset({FILE_SOURCE})
        self._synced: set[str] = set()
        self._finished: set[str] = set()
        self._swept = False
        self.admission: Admit | None = None
        """Asked about each pod that was never started before; one after the other."""
        self._door = asyncio.Lock()
        self._entering: dict[str, asyncio.Task[None]] = {}
        self._rejected: dict[str, PodStatus] = {}
        self.adopted = asyncio.Event()
        """Set once what runs on the node has been matched with what shall run."""
        self._sweeping: asyncio.Task[None] | None = None
        self._closing = False

    async def run(self, sources: Mapping[str, AsyncIterable[PodUpdates]]) -> None:
        """Run pods until cancelled; then all tasks end, and the pods go on without them.

        Args:
            sources: by name, `FILE_SOURCE`, `HTTP_SOURCE`, `API_SOURCE`; the first updates of each
                that were heard say all that it has, even if that is nothing.
        """
        self._saved = self._tools.checkpoints.load()
        self._expected = frozenset(sources)
        try:
            async with asyncio.TaskGroup() as group:
                for name, source in sources.items():
                    group.create_task(self._follow_source(name, source), name=f"pods of {name}")
                group.create_task(self._runtime.follow_events(), name="runtime events")
                group.create_task(self._runtime.keep_listing(), name="relist")
        finally:
            await self._close()

    async def _close(self) -> None:
        tasks = self.workers.tasks()
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        tasks += self._entering.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def pods(self) -> list[Pod]:
        """Return all pods with their statuses, also those that wait for an older instance."""
        found: list[Pod] = []
        for slot in sorted({*self.workers.slots(), *self._desired}):
            workers = self.workers.of(slot)
            for worker in workers.values():
                found.append(msgspec.structs.replace(worker.pod, status=worker.status))
            wanted = self._desired.get(slot)
            if wanted is not None and wanted.metadata.uid not in workers:
                saved = self._saved.get(wanted.metadata.uid)
                status = saved.status if saved is not None and saved.status else wanted.status
                status = self._rejected.get(wanted.metadata.uid, status)
                found.append(msgspec.structs.replace(wanted, status=status))
        return found

    def known(self, name: str, namespace: str = "") -> list[Known]:
        """Return what is known of the pods of a name, in one or in all namespaces.

        Of a static pod the name of the node may be left out.
        """
        contact = self._runtime.contact
        fault = "" if contact.ok else contact.error
        return self.workers.known(name, namespace, fault)

    async def terminate_all(self, timeout: float) -> bool:
        """End and remove all pods; return whether all are gone within ``timeout`` seconds.

        That includes those of an earlier kubelet that have not been taken over yet.
        """
        self._closing = True
        self._synced |= self._expected
        self._desired.clear()
        self._adopt()
        for slot in self.workers.slots():
            self._reconcile(slot)
        try:
            async with asyncio.timeout(timeout):
                await self.adopted.wait()
                while tasks := self.workers.tasks():
                    await asyncio.wait(tasks)
                    # The tasks' callbacks, which strike them off, run right after this one.
                    await asyncio.sleep(0)
        except TimeoutError:
            return False
        return True

    def resized(self, uid: str) -> None:
        """Let a pod's worker go on with what the pod was allocated now."""
        worker, resizes = self.workers.get(uid), self._tools.resizes
        entry = resizes.get(uid) if resizes is not None else None
        if worker is not None and entry is not None:
            worker.update(desired_of(entry.pod, self._crash_loop, self._dead))

    def _allocated(self, pod: Pod, saved: Saved | None = None) -> Pod:
        """Return a pod with the resources that it may use, which may be less than it wants."""
        resizes = self._tools.resizes
        if resizes is None:
            return pod
        if resizes.get(pod.metadata.uid) is not None:
            return resizes.update(pod)
        if saved is None:
            return resizes.add(pod).pod
        return resizes.add(pod, saved.pod, saved.status).pod

    def has_static(self, name: str) -> bool:
        """Whether a static pod of that namespace/name lives or is to live on the node."""
        slot = f"{FILE_SOURCE}:{name}"
        return slot in self._desired or bool(self.workers.of(slot))

    async def _follow_source(self, name: str, source: AsyncIterable[PodUpdates]) -> None:
        async for updates in source:
            self.apply(updates, name)

    def apply(self, updates: PodUpdates, source: str = FILE_SOURCE) -> None:
        """Take over what changed in a source of pods."""
        if self._closing:
            return
        for error in updates.errors:
            self._tell(error)
        for name, hints in updates.hints:
            logs.event(_log, logging.INFO, "fields without effect", pod=name, fields=list(hints))
        fresh = [*updates.added, *(change.new for change in updates.changed)]
        removed = list(updates.removed)
        if updates.heard and source not in self._synced:
            self._synced.add(source)
            removed += self._provisional(source, fresh)
            # What is found on the node and wanted by none is ended now, but not by an old list.
            self._runtime.ring()
        for pod in removed:
            self._desired.drop(pod)
            self._finished.discard(pod.metadata.uid)
            self._rejected.pop(pod.metadata.uid, None)
        for pod in fresh:
            holder = self._desired.put(pod)
            if holder is not None:
                self._tools.recorder.node(
                    WARNING, "InvalidManifest",
                    f"pod {pod_key(pod)} of the source {source_of(pod)} waits: the source "
                    f"{source_of(holder)} has a pod of this name; give one of them another name",
                )  # fmt: skip
        if not self.adopted.is_set():
            self._adopt()
            return
        for slot in {slot_of(pod): None for pod in (*removed, *fresh)}:
            self._reconcile(slot)

    def _tell(self, error: SourceError) -> None:
        """Tell what is wrong in a source, on the node and on the pods that it concerns."""
        self._tools.recorder.node(WARNING, error.event, str(error))
        kept = set(error.kept.split(", "))
        for pod in self._desired.values():
            if not from_api(pod) and pod_key(pod) in kept:
                text = f"{error.source}: {error.reason}; the pod runs on as it was"
                self._tools.recorder.warning(pod, error.event, text)

    def _provisional(self, source: str, fresh: Iterable[Pod]) -> list[Pod]:
        """Return the pods that went on from their checkpoints and are not wanted any more."""
        named = {pod.metadata.uid for pod in fresh}
        return [
            pod
            for pod in self._desired.values()
            if source_of(pod) == source and pod.metadata.uid not in named
        ]

    def _adopt(self) -> None:
        """Once the pods that shall be and those that are are known: match them.

        The API server may be away, and what it wants may be what runs it; so may a URL. Only the
        files of the node itself are waited for.
        """
        heard = self._synced >= self._expected & {FILE_SOURCE}
        if not (self._runtime.listed and heard) or self.adopted.is_set():
            return
        self.adopted.set()
        unheard = self._expected - self._synced
        for uid, saved in self._saved.items():
            if source_of(saved.pod) in unheard:
                self._desired.setdefault(slot_of(saved.pod), saved.pod)
            wanted = self._desired.get(slot_of(saved.pod))
            keep = wanted is not None and version_of(wanted) == version_of(saved.pod)
            pod = wanted if keep and wanted is not None else saved.pod
            self._start(pod, saved, ending=not keep)
            logs.event(
                _log, logging.INFO, "pod adopted" if keep else "pod without a manifest ended",
                pod=pod_key(saved.pod), uid=uid,
            )  # fmt: skip
        self._saved = {}
        self._tidy()
        for slot in list(self._desired):
            self._reconcile(slot)

    def _tidy(self) -> None:
        """End and remove what nobody wants; only once every source has said what it wants."""
        if not self.adopted.is_set() or not self._synced >= self._expected:
            return
        self._end_orphans()
        if self._swept:
            return
        self._swept = True
        waiting = {pod.metadata.uid for pod in self._desired.values()}
        known = frozenset(waiting | self.workers.uids())
        self._sweeping = asyncio.create_task(self._tools.environment.sweep(known), name="sweep")

    def _end_orphans(self) -> None:
        kept = {pod.metadata.uid for pod in self._desired.values()} | self.workers.uids()
        # What was removed while the runtime made its list is in there still.
        kept |= self.workers.ended
        for uid, identity in self._runtime.listing.identities.items():
            if uid in kept:
                continue
            logs.event(
                _log, logging.WARNING, "pod that nobody wants ended",
                pod=f"{identity.namespace}/{identity.name}", uid=uid,
            )  # fmt: skip
            self._start(_stranger(identity), None, ending=True)

    def _reconcile(self, slot: str) -> None:
        """Bring the instances of one pod to what is wanted: at most one, of the right version."""
        wanted = self._desired.get(slot)
        workers = self.workers.of(slot)
        for worker in workers.values():
            if wanted is None or version_of(worker.pod) != version_of(wanted):
                worker.terminate()
            else:
                self._lead(worker, wanted)
        if not workers and wanted is not None and wanted.metadata.uid not in self._finished:
            self._enter(slot, wanted)

    def _enter(self, slot: str, pod: Pod) -> None:
        """Start a pod, or have it admitted before if it was never started."""
        uid = pod.metadata.uid
        going = pod.metadata.deletion_timestamp is not None
        if uid in self._rejected:
            if going and uid not in self._entering:
                self._entering[uid] = asyncio.create_task(self._dismiss(pod), name=f"dismiss {uid}")
        elif self.admission is None or going or pod.status.start_time is not None:
            self._start(pod, None)
        elif uid not in self._entering:
            self._entering[uid] = asyncio.create_task(
                self._judge(self.admission, slot, pod), name=f"admit {pod_key(pod)}"
            )

    async def _judge(self, admit: Admit, slot: str, pod: Pod) -> None:
        uid = pod.metadata.uid
        try:
            async with self._door:
                wanted = self._desired.get(slot)
                if wanted is None or wanted.metadata.uid != uid or self.workers.of(slot):
                    return
                if wanted.metadata.deletion_timestamp is None:
                    try:
                        refused = await admit(wanted, self._wanted_beside())
                    except Exception as error:  # a defect must neither run a pod nor hang it
                        refused = Refusal("UnexpectedAdmissionError", repr(error))
                    wanted = self._desired.get(slot)
                    if wanted is None or wanted.metadata.uid != uid:
                        return
                    if refused is not None:
                        self._reject(wanted, refused)
                        return
                self._start(wanted, None)
        finally:
            self._entering.pop(uid, None)
            if not self._closing:
                self._reconcile(slot)

    def _reject(self, pod: Pod, refused: Refusal) -> None:
        self._tools.recorder.warning(pod, refused.reason, refused.message)
        status = PodStatus(
            observed_generation=pod.metadata.generation,
            phase="Failed",
            reason=refused.reason,
            message=f"Pod was rejected: {refused.message}",
            start_time=now(),
            qos_class=qos_class(pod),
            conditions=list(pod.status.conditions),
        )
        self._rejected[pod.metadata.uid] = status
        if self._published is not None:
            self._published(pod, status)

    async def _dismiss(self, pod: Pod) -> None:
        """See off a pod that never ran."""
        for each in self._tools.farewells:
            await each(pod)
        self._entering.pop(pod.metadata.uid, None)
        self._finished.add(pod.metadata.uid)
        if self._gone is not None:
            self._gone(pod)

    def _wanted_beside(self) -> list[Pod]:
        """Return the pods that a new one has to fit beside: active ones that a source names.

        One that was deleted by force may still take a moment to end, but the API server, and so the
        scheduler, has given away what it had; as in the Go kubelet it is not counted.
        """
        named = {pod.metadata.uid for pod in self._desired.values()}
        return [pod for pod in self.workers.active() if pod.metadata.uid in named]

    def _lead(self, worker: PodWorker, wanted: Pod) -> None:
        """Tell a worker what its pod is to be now."""
        pod = self._allocated(wanted)
        if pod != worker.pod:
            worker.update(desired_of(pod, self._crash_loop, self._dead))
        if wanted.metadata.deletion_timestamp is not None:
            worker.terminate(wanted.metadata.deletion_grace_period_seconds)

    def _start(self, pod: Pod, saved: Saved | None, *, ending: bool = False) -> None:
        allowed = pod if ending else self._allocated(pod, saved)
        desired = desired_of(allowed, self._crash_loop, self._dead)
        # All that the runtime had when it was first listed is in there, and nothing of a pod comes
        # to be but by its worker.
        listing = self._runtime.listing
        fresh = self._runtime.listed and pod.metadata.uid not in listing.identities
        worker = PodWorker(desired, self._tools, saved, self._published, fresh=fresh)
        if ending:
            worker.terminate()
        else:
            self._lead(worker, pod)
        slot, uid = slot_of(pod), pod.metadata.uid
        task = asyncio.create_task(self._keep(slot, worker), name=f"pod {pod_key(pod)}")
        self.workers.add(slot, worker, task)
        task.add_done_callback(lambda task: self._ended(slot, uid, task))

    async def _keep(self, slot: str, worker: PodWorker) -> None:
        """Have a pod run until it is gone, by another worker if a defect ends the first."""
        while True:
            try:
                await worker.run()
            except Exception as error:  # a defect that one pod wakes must not end the others
                logs.event(
                    _log, logging.ERROR, "pod worker broke; another one goes on",
                    pod=slot, reason=repr(error),
                )  # fmt: skip
            else:
                return
            # Not at once: what broke it would break it again in a tight loop.
            await asyncio.sleep(RELIST_RETRY)
            worker = self._successor(worker)
            self.workers.replace(slot, worker)

    def _successor(self, broken: PodWorker) -> PodWorker:
        saved = self._tools.checkpoints.get(broken.pod.metadata.uid)
        worker = PodWorker(broken.desired, self._tools, saved, self._published)
        worker.succeed(broken)
        return worker

    def _ended(self, slot: str, uid: str, task: asyncio.Task[None]) -> None:
        worker = self.workers.remove(slot, uid)
        if self._tools.resizes is not None:
            self._tools.resizes.remove(uid)
        if task.cancelled():
            return
        wanted = self._desired.get(slot)
        if wanted is not None and from_api(wanted) and wanted.metadata.uid == uid:
            # It goes on to exist while somebody's finalizer holds it, but not here.
            self._finished.add(uid)
        if worker is not None and self._gone is not None:
            self._gone(worker.pod)
        self._reconcile(slot)

    def _on_list(self) -> None:
        self.workers.forget_ended(before=self._runtime.listed_at)
        if self.adopted.is_set():
            self._tidy()
        else:
            self._adopt()


def _stranger(identity: Identity) -> Pod:
    """Return what is known of a pod that left nothing but its sandboxes."""
    meta = ObjectMeta(name=identity.name, namespace=identity.namespace, uid=identity.uid)
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=PodSpec())
