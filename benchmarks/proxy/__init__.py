"""The kube-proxy beside a peer's: Services at scale, by the time until packets get through."""
