"""Bootstrap tokens: cluster-info is signed by them, and they go when they are over.

kube-controller-manager runs both only where ``--controllers`` names them, which kubeadm does; here
they run by default.
"""
