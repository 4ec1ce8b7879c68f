"""What the daemons share: kernel calls, cgroups, logs, atomic files."""
