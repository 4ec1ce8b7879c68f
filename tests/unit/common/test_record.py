from __future__ import annotations

from typing import Any

import pytest

from kubeletpy_common.record import Record


class Point(Record):
    x: int
    y: int = 2


class Labelled(Point):
    label: str = ""


def test_fields_come_by_position_by_name_and_by_default() -> None:
    assert Point(1) == Point(x=1, y=2) == Point(1, y=2)
    assert Labelled(1, 3, "a").to_dict() == {"x": 1, "y": 3, "label": "a"}
    assert repr(Point(1)) == "Point(x=1, y=2)"


def test_records_of_other_classes_or_values_differ() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != Labelled(1)
    assert len({Point(1), Point(1, 2), Point(2)}) == 2


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1}), ((), {"y": 1})],
)
def test_what_does_not_fit_is_refused(values: tuple[int, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*values, **named)


def test_a_record_is_changed_only_by_making_another() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="replaced"):
        point.x = 5  # type: ignore[misc]
    assert (point.replaced(y=7), point) == (Point(1, 7), Point(1))
