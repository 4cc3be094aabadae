from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.end_to_end.processes import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "draw_served.py"


class Refusing(BaseHTTPRequestHandler):
    """Answers as MLflow does to a file that is no picture."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if self.path == "/invocations" else 404)
        self.end_headers()
        self.wfile.write(b"not a picture")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run_example(picture: Path, out: Path, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), str(picture), str(out), address]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_answers_without_boxes_are_one_message(server: HTTPServer, tmp_path: Path) -> None:
    picture, out = tmp_path / "notes.jpg", tmp_path / "drawn.png"
    picture.write_text("no picture")
    address = f"http://127.0.0.1:{server.server_port}/"
    done = run_example(picture, out, address)
    assert done.returncode == 1
    for fact in (str(picture), address, "status 400", "not a picture"):
        assert fact in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_server_that_does_not_answer_is_one_message(tmp_path: Path) -> None:
    picture = tmp_path / "notes.jpg"
    picture.touch()
    with HTTPServer(("127.0.0.1", 0), Refusing) as closed:
        address = f"http://127.0.0.1:{closed.server_port}"
    done = run_example(picture, tmp_path / "drawn.png", address)
    assert done.returncode == 1
    for fact in (address, "mlflow models serve"):
        assert fact in done.stderr
    assert "Traceback" not in done.stderr
