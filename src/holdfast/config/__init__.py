"""Configuration: `holdfast.yaml`, the environment, and what it takes to open a repository.

Import from the modules: `config.access` and `config.secret` know neither pydantic nor yaml, so that the command line
starts quickly; `config.loading` reads a file into `config.models.Config`.
"""
