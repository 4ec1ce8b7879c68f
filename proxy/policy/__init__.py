"""NetworkPolicies become nftables rules on this node.

``policy.policies``, ``policy.selectors``
    What a policy says, read strictly: what cannot be read allows nothing.
``policy.objects``
    Pods and namespaces, of each only what counts.
``policy.model``
    Which pods, policies and peers there are, and what a change of one changes.
``policy.layout``
    What the table looks like; begin there.
``policy.ledger``
    What is to be in it, and what was changed since it was last asked.
``policy.enforcer``
    The loop: inputs, model, a table for each family.
``policy.inputs``, ``policy.bridge``, ``policy.events``
    The API server, the kernel's bridges, what is told of bad policies.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""
