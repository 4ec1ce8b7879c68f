"""Which CPUs, memory and devices of which NUMA node a container gets.

Kubernetes' topology manager, CPU manager and memory manager (KEPs 693, 3570, 1769). The decisions
are pure: `hints` merges what the providers would like, `cpu_assignment` picks CPUs,
`memory_policy` nodes. `admission` asks all providers in turn when a pod comes to the node,
`pinning` keeps the runtime to what was decided.
"""
