"""Who may do what: RBAC, the Node authorizer, system:masters."""
