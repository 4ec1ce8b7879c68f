"""SPDY/3.1: many streams over one connection, as clients of Kubernetes still speak it.

Source: "SPDY Protocol - Draft 3.1" (The Chromium Projects).
"""
