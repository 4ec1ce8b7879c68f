"""Eviction: pods end before the node runs out of memory, disk, inodes or process ids.

::

    `notices` (pressure stall information, memory thresholds, housekeeping) --> look
    `measuring`  what the node and its pods use: cgroup files, statvfs, CRI; nothing is forked
    `decision`   which thresholds are met, which conditions hold, what is reclaimed first; pure
    `ranking`, `storage`  who goes, and with which words; pure
    `manager`    images and dead containers first, then one pod at a time
"""
