from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeletpy_common.plain import copied

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def _containers(value: Any) -> list[int]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [id(value)] if isinstance(value, dict | list) else []
    return own + [one for each in inner for one in _containers(each)]


@given(_PLAIN)
def test_a_copy_is_the_same_and_shares_nothing_that_can_change(value: Any) -> None:
    made = copied(value)
    assert made == copy.deepcopy(value)
    assert not set(_containers(made)) & set(_containers(value))
