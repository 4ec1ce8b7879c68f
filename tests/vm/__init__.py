"""Root tests in a virtual machine: pure cgroup v2, systemd as PID 1, whatever this machine has."""
