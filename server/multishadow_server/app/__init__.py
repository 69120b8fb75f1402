"""The composition root: the only place that knows every adapter. One module per role, with a coroutine `run`.

Each role runs until `stop` is set, calls `ready` with its bound address (or its name) once it serves, and drains before
it returns. A process imports the module of its own role alone: a router has no use for what reports are made with.
"""
