"""Routes between the pods of all nodes: each node's pod CIDRs, by its address or by VXLAN.

What is to be is a pure function of the Nodes and of what the kernel has (``plan``), what is done is
the difference of that to what there is (``difference``), and the kernel tells what others change
(``kernel``). Everything of ours is marked: routes by a protocol number of their own, neighbours and
forwarding entries by being on our device. So any start takes over what is there, without a gap.
"""
