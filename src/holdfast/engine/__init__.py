"""The Docker Engine: discovery, volumes, programs in containers, sandboxes. The only place that imports docker."""
