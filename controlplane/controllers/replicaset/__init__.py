"""ReplicaSets and ReplicationControllers: so many pods of one template.

``ranking``
    Which pods go first when there are too many (pure).
``status``
    What the pods say of their owner (pure).
``pace``
    How fast pods are made again that fail, or that the server refuses (pure).
``controller``
    Makes, deletes, adopts and releases.
"""
