"""Bootstrap tokens: cluster-info is signed by them, and they go when they are over.

As in kube-controller-manager, both run only where ``--controllers`` names them; kubeadm and
``kubeletpy install server`` do.
"""
