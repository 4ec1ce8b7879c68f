"""Requests that go on to a kubelet, a pod or a service: logs, streams and plain HTTP."""
