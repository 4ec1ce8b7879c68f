from __future__ import annotations

import pytest

from kubeletpy_common.settings.durations import ConfigurationError, duration, go_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90.0), ("1h", 3600.0), ("500ms", 0.5), ("0", 0.0), (0, 0.0), ("1.5h", 5400.0),
        ("-1s", -1.0), (".5s", 0.5), ("1us", 1e-6),
    ],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert duration(text, "x") == seconds


@pytest.mark.parametrize("text", ["90", "1 s", "", "s", "1d", None, True, 3, "1m-3s"])
def test_what_is_none(text: object) -> None:
    with pytest.raises(ConfigurationError, match=r"x: .* is no duration"):
        duration(text, "x")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (60, "1m0s"), (20, "20s"), (0.1, "100ms"), (4 * 3600, "4h0m0s"),
        (90.5, "1m30.5s"),
        (-1, "-1s"), (1.5e-5, "15µs"), (3e-9, "3ns"), (3601, "1h0m1s"),
    ],
)  # fmt: skip
def test_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_text(seconds) == text
    assert duration(text) == pytest.approx(seconds)
