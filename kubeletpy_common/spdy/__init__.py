"""SPDY/3.1: many streams over one connection, as clients of Kubernetes still speak it.

Source: "SPDY Protocol - Draft 3.1" (The Chromium Projects). Here are frames and their headers; the
streaming server has the server's side of a connection, ``kubeletpy cri`` the client's.
"""
