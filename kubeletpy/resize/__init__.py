"""In-place resize of pods (KEP-1287, KEP-5419): from the wish to the cgroups and the status.

::

    spec changes --> `coordinator` allocates, if the node has the room --> `allocation`
                     else PodResizePending: Deferred or Infeasible; tried again when something ends
    allocated, but not what runs --> `plan`: update in place, or restart by resizePolicy
    `execute`: cgroup of the pod and UpdateContainerResources, in the order that always fits
"""
