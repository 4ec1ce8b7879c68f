"""Whether a pod that comes to the node may run here, as the Go kubelet decides it.

``admission.predicates``
    ``failures(pod, node, others)``: what speaks against it: resources, labels, name, ports, taints
    (pure).
``admission.sysctls``
    ``forbidden(pod, allowed)``: a sysctl that is neither safe nor allowed by the operator (pure).
``admission.preemption``
    ``victims(pod, others, missing)``: which pods have to go for a critical one (pure).
``admission.admission``
    ``Admission``: asks both, ends the victims, and asks the parts of the kubelet that give a pod
    what it wants (`Core.admitters`).
"""
