"""Deployments: ReplicaSets, one for each template, of which the newest takes over.

``rollout``
    How many pods each ReplicaSet shall have (pure).
``revisions``
    Annotations: which revision a ReplicaSet is, and which ones are forgotten (pure).
``status``
    Counts and conditions (pure).
``steps``
    Carries out what was decided.
``controller``
    Which Deployments are looked at, and what is done with each.
"""
