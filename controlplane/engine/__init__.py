"""What every controller is made of; it knows the API of Kubernetes and nothing else of the server.

``engine.resources``
    ``PODS`` ...: the resources that controllers follow, and their paths.
``engine.informer``
    ``Informer``: a resource of the server kept in memory, with indexes; it shows the controller's
    own writes at once (``learn``), so that no decision is made of a state before them.
``engine.queue``
    ``WorkQueue``: keys that wait to be looked at, each once.
``engine.controller``
    ``Controller``: a queue and what looks at its keys. ``Context``: what a controller is given.
``engine.writes``
    Creating, changing and deleting, with the answer learned.
``engine.ownership``
    Controller references: who owns what, adopting and releasing.
``engine.recorder``
    ``Recorder``: events about objects.
``engine.election``
    ``Election``: one of several processes works, by a Lease.
``engine.host``
    The process in which controllers run.
"""
