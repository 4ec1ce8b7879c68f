"""When rules that others took away are made again."""

from __future__ import annotations

from proxy.podnetwork.filters import Pauses


def test_losses_are_made_good_at_once_but_not_all_the_time() -> None:
    pauses = Pauses()
    waits = [pauses.next(float(second)) for second in range(20)]
    assert waits[:4] == [0.0] * 4
    assert waits[4] > 0.0
    assert waits == sorted(waits)
    assert waits[-1] == 5.0
    # After a while without one, it is at once again.
    assert pauses.next(40.0) == 0.0
