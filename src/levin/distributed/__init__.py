"""Several processes as one: they form a group, speak with one another, and end together.

`group` starts and ends the group, `collectives` is the one door to torch's collective operations, `watch`
looks after the other processes from a thread beside the run.
"""

from __future__ import annotations
