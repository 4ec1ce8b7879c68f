"""What a kind declares of itself; the machinery does the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from controlplane.api.errors import Cause
from controlplane.api.identity import SYSTEM, User
from controlplane.kinds.types import Types

Object = dict[str, Any]
"""A decoded object of the API."""


@dataclass(slots=True)
class Context:
    """One request, as far as kinds need to know it.

    Attributes:
        user: who asks.
        namespace: in the path; "" for none.
        name: in the path; "" for none.
        now: RFC 3339, to the second.
        dry_run: nothing is kept.
        manager: field manager that writes.
        subresource: that is written to; "" for the object itself.
        warnings: that the answer carries, in order.
        claims: of the checks, which are kept or dropped with the write.
    """

    user: User = SYSTEM
    namespace: str = ""
    name: str = ""
    now: str = ""
    dry_run: bool = False
    manager: str = ""
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table that ``kubectl get`` prints.

    Attributes:
        name: its heading.
        type: ``string``, ``integer``, ``number``, ``boolean`` or ``date``.
        format: ``name`` for the one with the object's name; "" otherwise.
        priority: 0 is always shown, others with ``-o wide``.
        description: in a few words.
    """

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


AGE: Final = Column("Age", description="How long ago it was made.")
"""The column that the server fills in itself, where it is put into :attr:`Strategy.columns`."""


class Claim(Protocol):
    """Something taken for an object that is being written, such as an address."""

    def keep(self) -> None:
        """The write is durable: what the object has no more is free."""
        ...

    def drop(self) -> None:
        """The write failed, or was tried only: what was taken is free again."""
        ...


class Claims(Protocol):
    """Takes what objects of a kind have for themselves alone, before they are written."""

    def claim(self, value: Object, old: Object | None, context: Context) -> Claim:
        """Take it, and put it into the object.

        Args:
            value: the new object, with its defaults; changed.
            old: as it was; None: it is being made.
            context: of the request.

        Raises:
            ApiError: what it asks for cannot be had.
        """
        ...

    def release(self, old: Object) -> None:
        """Free what an object had that is gone."""
        ...


class Strategy:
    """How objects of a kind are made and changed; the default does nothing special.

    The order of a write: defaults, preparation, admission, checks.

    Attributes:
        columns: of its table, after the name. The age stands where :data:`AGE` is; if it is not
            there, before the first column of ``-o wide``. If one is called ``Name``, these are all
            columns and the server adds none.
        generation: ``metadata.generation`` counts changes of anything but metadata and status.
        has_status: its status is written by the subresource only.
        grace: seconds that a deletion waits for someone to confirm it, if none are asked for; None:
            objects are deleted at once.
        propagation: what becomes of dependents if a deletion does not say: ``Background``,
            ``Foreground`` or ``Orphan``.
        selectable: paths that :meth:`fields` tells.
        storage_version: in which objects are kept; "": in each version that there is.
        typed: the table of types knows all fields, and how strategic merge patches merge them.
        deletion_finalizer: that an object gets when it is to be deleted; "": none.
        unconditional: an update without a resourceVersion overwrites whatever is there.
        create_on_update: an update of an object that is not there makes it.
        names: what they may be: ``subdomain`` or ``label`` (RFC 1123), or ``path``, one part of a
            path.
        home: group of the kind that keeps the objects, if they are another's in another form; then
            :meth:`to_stored` and :meth:`to_served` translate.
        converts: objects are kept in another form than the one that is served.
    """

    columns: tuple[Column, ...] = ()
    generation: bool = True
    has_status: bool = True
    grace: int | None = None
    propagation: str = "Background"
    selectable: frozenset[str] = frozenset()
    unconditional: bool = True
    create_on_update: bool = False
    names: str = "subdomain"
    home: str = ""
    converts: bool = False
    storage_version: str = ""
    typed: bool = True
    deletion_finalizer: str = ""

    def clean(self, types: Types, name: str, body: Object) -> tuple[Object, list[str]]:
        """Return an object of a request as it is kept, and the paths of unknown fields.

        Args:
            types: of the built-in kinds.
            name: of the kind's type.
            body: of the request.

        Raises:
            WrongTypeError: a value is of a wrong type.
        """
        return types.clean(name, body)

    def default(self, value: Object) -> None:
        """Put in the defaults that the types do not tell."""

    def prepare_create(self, value: Object, context: Context) -> None:
        """Set what the server sets, and drop what a client may not, at a creation."""

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Likewise at an update of anything but a subresource."""

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        """Likewise at an update of the status.

        It comes with the status and the metadata of the request, everything else of the old one.
        """

    def prepare_delete(self, value: Object, context: Context) -> None:
        """Likewise at a deletion that has to wait; its metadata is marked already."""

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with a new object, or with a changed one and its old form."""
        return []

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with an object whose status is changed."""
        return []

    def validate_subresource(self, value: Object, old: Object, subresource: str) -> list[Cause]:
        """Return what is wrong with an object that is changed by another subresource."""
        return self.validate(value, old)

    def deletion_grace(self, value: Object, asked: int | None) -> int:
        """Return the seconds that a deletion waits for someone to confirm it.

        Args:
            value: to be deleted.
            asked: what the request says; None: nothing.
        """
        if self.grace is None:
            return 0
        spec = value.get("spec", {})
        grace: int = spec.get("terminationGracePeriodSeconds", self.grace)
        return max(grace if asked is None else asked, 0)

    def is_new_generation(self, value: Object, old: Object) -> bool:
        """Say whether a change is counted by ``metadata.generation``."""
        ignored = ("metadata", "status")
        return any(
            value.get(key) != old.get(key)
            for key in value.keys() | old.keys()
            if key not in ignored
        )

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about an object that is good all the same.

        Asked for at a creation and when the generation changes, if the kind has one.
        """
        return []

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for, besides name and namespace."""
        return {}

    def row(self, value: Object) -> list[Any]:
        """Return the cells of :attr:`columns`, without that of the age."""
        return []

    def to_stored(self, value: Object) -> Object:
        """Return an object in the form in which it is kept."""
        return value

    def to_served(self, value: Object) -> Object:
        """Return a kept object in the form of this version."""
        return value


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as it is served.

    Attributes:
        group: "" for the core group.
        version: such as ``v1``.
        plural: its name in paths.
        singular: its name for one, in lower case.
        kind: its name in objects.
        namespaced: its objects are in namespaces.
        type_name: of its type.
        strategy: what is special about it.
        short_names: such as ``po``.
        categories: such as ``all``.
        verbs: that it serves.
        subresources: facts of its subresources, by their name, as discovery tells them.
        kept: its objects are in the store; others are answered and forgotten (reviews).
    """

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    type_name: str
    strategy: Strategy
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    subresources: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: bool = True

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The beginning of its keys in the store; versions of a kind share it."""
        return f"/{self.strategy.home or self.group or 'core'}/{self.plural}/"

    def key(self, namespace: str, name: str) -> str:
        """Return the key of an object in the store."""
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else f"{self.prefix}{name}"

    def prefix_in(self, namespace: str) -> str:
        """Return the beginning of the keys in a namespace; "" for all of them."""
        return f"{self.prefix}{namespace}/" if namespace and self.namespaced else self.prefix


class DeletionCheck(Protocol):
    """A check of every deletion."""

    async def admit_delete(self, resource: Resource, old: Object, context: Context) -> None:
        """Refuse it, or let it pass.

        Args:
            resource: the kind.
            old: the object as it is.
            context: of the request.

        Raises:
            ApiError: it is refused.
        """
        ...


class Admission(Protocol):
    """A check of every write, before it is kept (quotas, NodeRestriction, defaults of pods ...)."""

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Change the object, or refuse it.

        Raises:
            ApiError: it is refused.
        """
        ...
