from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.machine import _mapped, _shares
from benchmarks.report import FIGURES, OURS, PEER, Samples, missed, p90, summary, table


def samples(figure: str, ours: list[float], peer: list[float]) -> Samples:
    found = Samples()
    for value in ours:
        found.add(figure, OURS, value)
    for value in peer:
        found.add(figure, PEER, value)
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5], 5), ([1, 2], 2), (list(range(1, 11)), 9), (list(range(1, 31)), 27)],
)
def test_p90(values: list[float], expected: float) -> None:
    assert p90(values) == expected


@pytest.mark.parametrize(("ours", "met"), [(24.0, True), (25.0, True), (25.4, True), (26.0, False)])
def test_a_target_is_a_ratio_of_medians(ours: float, met: bool) -> None:
    rows = summary(samples("together", [1.0, ours, 90.0], [100.0, 100.0, 7.0]))
    assert list(rows) == ["together"]
    assert rows["together"]["ratio"] == ours / 100
    assert rows["together"]["met"] is met
    assert missed(rows) == ([] if met else [FIGURES["together"].title])


def test_without_a_target_a_peer_or_enough_work_there_is_no_verdict() -> None:
    assert summary(samples("create", [1.0], [2.0]))["create"]["met"] is None
    assert summary(samples("stop", [1.0], []))["stop"]["ratio"] is None
    assert summary(samples("stop", [9.0], [1.0]), judged=False)["stop"]["met"] is None


def test_a_missed_target_is_marked() -> None:
    for ours, word in ((9.0, "MISSED"), (0.1, "met")):
        text = StringIO()
        Console(file=text, width=150).print(
            table(summary(samples("exec", [ours], [10.0])), "a machine")
        )
        assert word in text.getvalue()
        assert "<= 0.20" in text.getvalue()


SMAPS = """\
5500-5600 r--p 00000000 fe:00 77 /usr/bin/python3
Size:                100 kB
Rss:                  80 kB
Pss:                  40 kB
Anonymous:             0 kB
5600-5700 rw-p 00001000 fe:00 77 /usr/bin/python3
Rss:                  12 kB
Anonymous:             8 kB
7f00-7f10 rw-p 00000000 00:00 0 
Rss:                 500 kB
Anonymous:           500 kB
"""  # noqa: W291


def test_mapped_files_and_shares() -> None:
    assert _mapped(SMAPS) == {
        ("fe:00 77", "00000000"): 80 << 10,
        ("fe:00 77", "00001000"): 4 << 10,
    }
    rollup = (
        "5500-ffff ---p 00000000 00:00 0 [rollup]\nPss: 9 kB\nPss_Anon: 5 kB\nPss_Shmem: 2 kB\n"
    )
    assert _shares(rollup, "Pss_Anon", "Pss_Shmem") == 7 << 10
    assert _shares(rollup, "Pss") == 9 << 10
