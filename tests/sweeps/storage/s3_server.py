"""A real S3 server, by default on the loopback interface, with moto's buckets in this process."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3
import pytest
from moto import settings
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

BUCKET = "study-bucket"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class S3Server:
    """Serves an empty bucket. It can be stopped and started again, at the same address and with the same objects."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._port = 0
        self._server: ThreadedMotoServer | None = None

    def __enter__(self) -> Self:
        moto_api_backend.reset()
        self.start()
        self._client("s3").create_bucket(Bucket=BUCKET)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self.stop()

    def start(self) -> None:
        self._server = ThreadedMotoServer(self._host, self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop()
        listening = self._server._server
        assert listening is not None
        listening.server_close()  # which moto leaves open
        self._server = None

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def uri(self) -> str:
        """Of a folder in the bucket."""
        return self.uri_of("runs")

    def uri_of(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}?endpoint_override={self.address}&scheme=http"

    def put(self, key: str, content: bytes) -> None:
        self._client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)

    def put_folder(self, key: str, folder: Path) -> None:
        """Upload the files of a folder, at any depth."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def _client(self, service: str) -> boto3.client:
        return boto3.client(
            service,
            endpoint_url=f"http://{self.address}",
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def objects(self) -> set[str]:
        """Keys of all objects, without the empty ones that stand for folders."""
        pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {each["Key"] for page in pages for each in page.get("Contents", []) if not each["Key"].endswith("/")}

    def empty(self) -> None:
        """Remove all objects."""
        client = self._client("s3")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for each in page.get("Contents", []):
                client.delete_object(Bucket=BUCKET, Key=each["Key"])

    def content(self) -> bytes:
        """Of all objects."""
        client = self._client("s3")
        return b"".join(client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in self.objects())

    def require_credentials_with(self, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
        """Create a user whose key, which is returned, is the only one that the server accepts from now on."""
        iam = self._client("iam")
        iam.create_user(UserName="trainer")
        allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="trainer", PolicyName="all", PolicyDocument=json.dumps(allow))
        key = iam.create_access_key(UserName="trainer")["AccessKey"]
        monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
        return key["AccessKeyId"], key["SecretAccessKey"]
