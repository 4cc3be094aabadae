"""Hosts in namespaces, by SSH."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[3]
USER: Final = "hkd-host"
HEAD: Final = "10.77.0.11"
WORKERS: Final = ("10.77.0.12", "10.77.0.13")
JOIN_SECONDS: Final = 300.0

# The demo with 8 scenes of 96 x 96 pixels, and one epoch each: a trial takes seconds.
TINY_STUDY: Final = (
    "search.num_trials=1",
    "base.data.synthetic.train_images=8",
    "base.data.synthetic.validation_images=4",
    "base.data.image_height=96",
    "base.data.image_width=96",
    "base.teacher.training.total_epochs=1",
    "base.training.total_epochs=1",
    "resources.max_concurrent_trials=3",
    "resources.threads_per_trial=1",
)

PREPARE: Final = r"""
uv=/home/hkd-host/.local/share/hkd/uv/bin
mkdir -p "$uv"
cat > "$uv/uv" << 'END_OF_UV'
STAND_IN
END_OF_UV
chmod 755 "$uv/uv"
chown -R hkd-host: /home/hkd-host/.local
echo 'export HKD_PYTHON=LENDER_FOLDER/python' > /etc/profile.d/hkd.sh
"""
"""In place of uv, which would install 6 GB: virtual environments with the packages of the tests' interpreter."""

PREPARE_NFS: Final = r"""
printf '#!/bin/sh\nexec mount --bind /nfs "$2"\n' > /sbin/mount.nfs4
printf '#!/bin/sh\nexec mount --bind /nfs /shared\n' > /usr/sbin/exportfs
chmod 755 /sbin/mount.nfs4 /usr/sbin/exportfs
"""
"""In place of NFS, which kernels of containers lack: bind mounts of one folder, /nfs."""

PREPARE_GPU: Final = r"""
echo "export RAY_OVERRIDE_RESOURCES='{\"GPU\": 1}'" >> /etc/profile.d/hkd.sh
"""
"""In place of a GPU, Ray's word that there is one: trials that reserve it run on the CPU."""


def prepare() -> str:
    """Commands that prepare a host, for the variable PREPARE of hosts.sh."""
    # Folders of this checkout and of the interpreter may be closed to others, such as /root.
    used = [REPOSITORY, *(Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix))]
    parents = sorted({str(parent) for folder in used for parent in folder.parents})
    script = PREPARE.replace("STAND_IN", _stand_in()).replace("LENDER_FOLDER", str(Path(sys.executable).parent))
    return f"chmod o+x {shlex.join(parents)}{script}"


def stand_in_for_uv(folder: Path) -> None:
    """Write a command ``uv``, which needs a second and no network."""
    folder.mkdir()
    (folder / "uv").write_text(_stand_in(), encoding="utf-8")
    (folder / "uv").chmod(0o755)


def _stand_in() -> str:
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    version = next(line for line in constraints.splitlines() if line.startswith("uv==")).partition("==")[2]
    script = (REPOSITORY / "tests" / "cluster" / "borrowed_uv.sh").read_text(encoding="utf-8")
    first, rest = script.split("\n", 1)
    return f"{first}\nLENDER={shlex.quote(str(Path(sys.executable).parent))} VERSION={version}\n{rest}"


def show(line: str) -> None:
    """Print a line of the scenario's log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Host:
    """A host, by SSH."""

    def __init__(self, address: str, key: Path) -> None:
        self.address = address
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
        self._ssh = ["ssh", "-i", str(key), *(part for option in options for part in ("-o", option))]
        self._target = f"{USER}@{address}"

    def run(self, command: str) -> str:
        """Output of a command; its failure is an error."""
        show(f"+ {self._target}: {command[:200]}")
        # A terminal, as Ray's launcher allocates.
        done = subprocess.run(
            [*self._ssh, "-tt", self._target, command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout.replace("\r\n", "\n")

    def arguments(self, command: str) -> list[str]:
        """Of a process on this machine that executes the command there, without a terminal."""
        return [*self._ssh, self._target, command]

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder's content, as Ray's launcher does."""
        folder = "/" if source.is_dir() else ""
        subprocess.run(
            ["rsync", "--rsh", shlex.join(self._ssh), "-a", "--mkpath", "--exclude", "__pycache__",
             f"{source}{folder}", f"{self._target}:{target.removeprefix('~/')}{folder}"],
            check=True,
        )  # fmt: skip


def in_login_shell(command: str) -> str:
    """A command as Ray's launcher passes it to SSH."""
    from ray.autoscaler._private.command_runner import _with_interactive

    return " ".join(_with_interactive(command))  # type: ignore[no-untyped-call]


def in_ray(head: Host, script: str) -> str:
    """Output of Python code that is connected to the head's cluster."""
    connect = "import ray, time; ray.init(address='auto', logging_level='error')"
    return head.run(in_login_shell(f'python -c "{connect}\n{script}"'))


def wait_for_nodes(head: Host, number: int) -> None:
    """Until Ray's own count of living nodes is ``number``."""
    living = "sum(node['Alive'] for node in ray.nodes())"
    wait = f"while {living} < {number} and time.monotonic() < end: time.sleep(1)"
    output = in_ray(head, f"end = time.monotonic() + {JOIN_SECONDS}\n{wait}\nprint('nodes:', {living})")
    if f"nodes: {number}" not in output:
        raise AssertionError(output + head.run("tail -n 50 /tmp/ray/session_latest/logs/monitor.*"))
