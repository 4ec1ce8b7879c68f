"""What Services mean on this node: plain data and pure functions, no kernel and no network.

``model.portal``
    `Portal`, the one thing that a rule set is made from.
"""
