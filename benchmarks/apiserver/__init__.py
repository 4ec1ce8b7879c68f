"""The API server under load: on SQLite and on etcd, and a kube-apiserver where there is one."""
