"""Jobs: pods that run to their end, counted exactly.

``indexes``
    ``1,3-5``: sets of completion indexes as a status writes them.
``facts``
    What a Job's pods say: their index, whether they failed, when they ended.
``policies``
    What a pod's failure means, and which successes are enough.
``backoff``
    How long no pod is made after failures.
``situation``
    A Job and its pods at one moment, counted.
``decisions``
    Whether the Job is to end, and which pods are made or go.
``tracking``
    What the status counts, in steps that survive a crash between any two.
``controller``
    Carries it all out.
"""
