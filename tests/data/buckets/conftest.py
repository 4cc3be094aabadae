"""The S3 server of the tests of a study's storage."""

from __future__ import annotations

from tests.sweeps.storage.conftest import running_server, server

__all__ = ["running_server", "server"]
