"""The kubelet's certificates: asked for by CertificateSigningRequests, kept, renewed in time.

https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
"""
