"""OCI's blockIO becomes writes to the files of v1 and v2."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kubeletpy_common.cgroups import CgroupError, LinuxResources
from kubeletpy_common.cgroups.block_io import BlockIoLimits, io_weight

WHOLE = {
    "weight": 500,
    "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
    "throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 1000}],
    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
}


def read(value: dict[str, Any]) -> BlockIoLimits:
    found = BlockIoLimits.from_oci(value)
    assert found is not None
    return found


def test_files_of_v2() -> None:
    assert list(read(WHOLE).v2_writes(lambda name: False)) == [
        ("io.weight", "default 4950"),
        ("io.weight", "8:0 10000"),
        ("io.max", "8:16 rbps=1000"),
        ("io.max", "8:16 wiops=max"),
    ]
    assert list(read(WHOLE).v2_writes(lambda name: name == "io.bfq.weight"))[:2] == [
        ("io.bfq.weight", "default 500"),
        ("io.bfq.weight", "8:0 1000"),
    ]


def test_files_of_v1() -> None:
    assert list(read(WHOLE).v1_writes(lambda name: False)) == [
        ("blkio.weight", "500"),
        ("blkio.weight_device", "8:0 1000"),
        ("blkio.throttle.read_bps_device", "8:16 1000"),
        ("blkio.throttle.write_iops_device", "8:16 0"),
    ]
    bfq = list(read({"weight": 10}).v1_writes(lambda name: True))
    assert bfq == [("blkio.bfq.weight", "10")]


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (100, 910), (1000, 10000)])
def test_the_scale_of_weights(weight: int, converted: int) -> None:
    assert io_weight(weight) == converted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"weight": 9}, "weight 9 is refused: it must be from 10 to 1000"),
        ({"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}, "weight 1001"),
        ({"leafWeight": 100}, "leafWeight"),
        ({"throttleReadBpsDevice": [{"major": 8, "rate": 5}]}, "major, minor and rate"),
        ({"throttleReadBpsDevice": [{"major": 8, "minor": -1, "rate": 5}]}, "is refused"),
    ],
)
def test_what_is_refused(value: dict[str, Any], text: str) -> None:
    with pytest.raises(CgroupError, match=re.escape(text)):
        LinuxResources.from_oci({"blockIO": value})


def test_it_is_part_of_the_resources() -> None:
    assert LinuxResources.from_oci({"blockIO": WHOLE}).block_io == read(WHOLE)
    assert LinuxResources.from_oci({"blockIO": {}}).block_io is None
