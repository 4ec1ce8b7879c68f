"""DaemonSets: a pod on each node that fits.

``fitting``
    On which nodes, and what the pods tolerate (pure).
``plan``
    What is to be made and deleted, and in which order an update goes (pure).
``status``
    What is told of a set (pure).
``controller``
    Carries it out.
"""
