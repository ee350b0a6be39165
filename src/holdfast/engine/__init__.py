"""The Docker Engine: what runs where, volumes, commands inside containers, sandboxes.

Rules upheld in this package:
- It alone speaks the Engine's API; errors of the SDK are translated in `client` and never leave it.
- Names are exact. `app` is never `app2`, a prefix of an id is no name, and nothing is ever created by being asked for.
- What is created for a while is removed by us, and carries a label by which a reaper finds it if we were killed.
"""
