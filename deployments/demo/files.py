"""The files that a user would write: holdfast.yaml, the repository's password, the keys of the S3 server.

Rules upheld here:
- Secrets are made for one run, lie in files of mode 0600 in the demo's own folder, and are named, not held, by the
  configuration.
- The configuration is the real one: it goes through the same strict loading as a user's.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

import yaml

from deployments.demo.sample import STACK
from deployments.local.s3 import S3Endpoint
from holdfast.config.loading import load
from holdfast.services.access import init_repository_at
from holdfast.services.stacks import access_of

BUCKET = "backups"


def write_files(folder: str, endpoint: S3Endpoint, sample: dict[str, Any]) -> str:
    """Write all of them; the path of holdfast.yaml."""
    for name, secret in (
        ("password", secrets.token_urlsafe(24)),
        ("s3-access-key", endpoint.access_key),
        ("s3-secret-key", endpoint.secret_key),
    ):
        _write(os.path.join(folder, name), secret)
    document = {
        "version": 1,
        "repository": {
            "url": f"s3:{endpoint.endpoint}/{BUCKET}/host-1",
            "password_file": os.path.join(folder, "password"),
            "s3": {
                "access_key_file": os.path.join(folder, "s3-access-key"),
                "secret_key_file": os.path.join(folder, "s3-secret-key"),
                "region": "us-east-1",
            },
        },
        **sample,
    }
    document["stacks"] = {STACK: {**sample["stacks"][STACK], "retention": {"keep_last": 1}}}
    path = os.path.join(folder, "holdfast.yaml")
    _write(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return path


def make_repository(config: str) -> str:
    """As `holdfast init` does; where the repository is."""
    with init_repository_at(access_of(load(config))) as repository:
        return repository.location


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
