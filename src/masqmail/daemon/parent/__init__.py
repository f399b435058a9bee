"""The privileged parent, for a daemon that root starts: `start` forks it, `loop` serves it, a `worker` delivers.

The daemon's end of it is `ParentAgent` in `daemon.agent`.
"""
