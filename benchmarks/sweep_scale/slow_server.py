"""An MLflow server on the loopback interface, behind a proxy that delays every request."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS_TO_START = 300.0


@contextmanager
def slow_mlflow_server(folder: Path, latency_ms: float) -> Iterator[str]:
    """Start the server and its proxy as processes of their own; yields the URI of the proxy."""
    port, slow_port = _free_port(), _free_port()
    server = [
        *("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *(
            "--backend-store-uri",
            f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination",
            str(folder / "stored"),
        ),
    ]
    proxy = ["-m", "benchmarks.sweep_scale.slow_server", str(slow_port), str(port), str(latency_ms)]
    quiet = subprocess.DEVNULL
    processes = [
        subprocess.Popen([sys.executable, *command], stdout=quiet, stderr=quiet, start_new_session=True)
        for command in (server, proxy)
    ]
    try:
        for each in (port, slow_port):
            _wait_for(each)
        yield f"http://127.0.0.1:{slow_port}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


async def delay_requests(port: int, server_port: int, latency_ms: float) -> None:
    """Forward connections; what the client sends arrives ``latency_ms`` later."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        try:
            while data := await reader.read(2**16):
                await asyncio.sleep(seconds)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(forward(reader, to_server, latency_ms / 1000), forward(from_server, writer, 0.0))

    proxy = await asyncio.start_server(connect, "127.0.0.1", port)
    await proxy.serve_forever()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    asyncio.run(delay_requests(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
