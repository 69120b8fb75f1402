"""The composition root: the only place that knows every adapter. One coroutine per role.

Each role runs until `stop` is set, calls `ready` with its bound address (or its name) once it serves, and drains before
it returns.
"""

from __future__ import annotations
