"""StatefulSets: pods with names and storage of their own, made, updated and ended in order.

``identity``
    Names, labels, volumes and claims of the pod of an ordinal (pure).
``retention``
    Which claims are deleted with what: their owners (pure).
``plan``
    What is to be done now (pure).
``status``
    What is told of a set (pure).
``controller``
    Carries it out.
"""
