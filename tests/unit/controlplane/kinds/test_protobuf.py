from __future__ import annotations

from controlplane.kinds.protobuf import decode_object
from controlplane.kinds.types import builtin_types

# google.protobuf.Timestamp of 0001-01-01T00:00:02Z, as Go clients send an early time.
EARLY = bytes.fromhex("088292b8c398feffffff01")


def field(number: int, content: bytes) -> bytes:
    """Encode a field of a message or text, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_years_have_four_digits() -> None:
    types = builtin_types()
    # LeaseSpec: acquireTime is 3; Lease: metadata 1, spec 2; Unknown: typeMeta 1, raw 2.
    lease = field(1, field(1, b"a")) + field(2, field(3, EARLY))
    meta = field(1, b"coordination.k8s.io/v1") + field(2, b"Lease")
    value = decode_object(b"k8s\x00" + field(1, meta) + field(2, lease), types.kinds)
    assert value["spec"]["acquireTime"] == "0001-01-01T00:00:02.000000Z"
    cleaned, unknown = types.clean("coordination.v1.Lease", value)
    assert (cleaned["spec"], unknown) == (value["spec"], [])
