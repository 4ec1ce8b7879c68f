"""Small immutable values for processes whose memory is paid once per pod.

The standard library's dataclasses and typing take two megabytes of memory between them, which
every shim inherits from the spawner and gradually makes its own. A subclass of :class:`Record` is
declared like a dataclass, and type checkers take it for one (PEP 681).
"""

from __future__ import annotations

# Type checkers take this name for true; typing itself is what must not be imported.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        """Do nothing: only type checkers look at it."""
        return lambda decorated: decorated


@dataclass_transform(frozen_default=True)
class Record:
    """A value of named fields, each an annotation of its class, with defaults where it has them.

    Compared and shown by its fields, and not to be changed; :meth:`replaced` makes another.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *cls.__annotations__)

    def __init__(self, *values: Any, **named: Any) -> None:
        """Take values by position or by name.

        Raises:
            TypeError: a field is unknown, given twice, or missing.
        """
        fields, given = self._fields, self.__dict__
        given.update(zip(fields, values, strict=False))
        given.update(named)
        for name in fields:
            if name not in given and not hasattr(self, name):
                raise TypeError(f"{type(self).__name__}: the field {name!r} is missing")
        if len(given) != len(values) + len(named) or not given.keys() <= set(fields):
            raise TypeError(f"{type(self).__name__} takes {fields}, not {values} and {named}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__}.{name} cannot be set: make another by replaced()"
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.to_dict().values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({shown})"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name; values that are records stay what they are."""
        return {name: getattr(self, name) for name in self._fields}

    def replaced(self, **changes: Any) -> Self:
        """Return another one that differs in ``changes``."""
        return type(self)(**{**self.to_dict(), **changes})
