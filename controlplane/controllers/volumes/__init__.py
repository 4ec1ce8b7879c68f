"""Persistent volumes: which claim has which, where they come from, and what becomes of them.

``matching``
    Which volume fits a claim (pure).
``binder``
    Binds claims to volumes, and says what becomes of a volume whose claim is gone.
``provisioner``, ``provisioning``, ``directories``
    Volumes that are directories of a node: when, what (pure), and the directories themselves.
``expander``
    Volumes that grow.
``ephemeral``
    Claims that belong to pods.
"""
