"""CertificateSigningRequests: what kubelets ask for is approved, what is approved is signed.

``requests``
    What a signer accepts (pure). It imports `cryptography`, which the others do once they need it.
``approver``, ``signer``, ``cleaner``
    The controllers.
"""
