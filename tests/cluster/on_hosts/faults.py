"""Faults of a study on several hosts, one after another: what each costs. `python -m benchmarks.cluster_faults`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.on_hosts.checks import kill_mlflow, pids_of
from tests.cluster.on_hosts.documented import CLUSTER_FILE, write_cluster_file
from tests.cluster.on_hosts.hosts import HEAD, WORKERS, Host, in_login_shell, show, wait_for_nodes
from tests.cluster.on_hosts.studies import EPOCHS, Row, Study, mount_shared_folder
from tests.cluster.on_hosts.user import User, wait_until
from tests.full_disk import fill_disk
from tests.sweeps.storage.s3_server import CREDENTIALS, S3Server

RAYLET = "^[^ ]*/raylet/raylet "
TRAINING = "^ray::ResourceTrainable"
SECONDS_AWAY = 20.0
MANY_EPOCHS = 300
"""Where a study must last while something else starts."""


@dataclass(frozen=True)
class Lab:
    """A cluster of a head, which executes no trials, and two workers."""

    folder: Path
    head: Host
    workers: list[Host]

    @property
    def shared(self) -> Path:
        """The folder of all hosts, as this process sees it."""
        return self.folder / "shared"

    def study(self, fault: str, storage: str = "runs", epochs: int = EPOCHS) -> Study:
        return Study(self.folder, fault, storage, epochs)

    def training_host(self) -> Host:
        """A worker that trains now."""
        found: list[Host] = []

        def is_found() -> bool:
            found.extend(host for host in self.workers if pids_of(host, TRAINING))
            return bool(found)

        wait_until(is_found, "a worker that trains")
        return found[0]


def kill(host: Host, pattern: str, signal: str = "KILL") -> None:
    """Kill the first process whose arguments match."""
    pids = pids_of(host, pattern)
    assert pids, f"{host.address} has no process {pattern}"
    host.run(f"kill -{signal} {pids[0]}")


def faults(folder: Path) -> None:
    """Start the cluster, then print the table."""
    user = User(folder)
    write_cluster_file(user, folder / "key")
    user.run(f"ray up -y {CLUSTER_FILE}")
    lab = Lab(folder, Host(HEAD, folder / "key"), [Host(address, folder / "key") for address in WORKERS])
    wait_for_nodes(lab.head, 3)
    wanted = os.environ.get("FAULTS", "").split(",")
    rows: list[Row] = []
    for name, fault in FAULTS.items():
        if wanted == [""] or name in wanted:
            show(f"== {name}")
            rows.append(fault(lab))
            show(rows[-1].line())
    show("\n| Fault | Finished epochs repeated | Exit code | Message | Seconds |\n|---|---:|---|---|---:|")
    for row in rows:
        show(row.line())


def lost_worker(lab: Lab) -> Row:
    """The process of one trial."""
    return _lost("a worker process is killed", lab, lambda: kill(lab.training_host(), TRAINING))


def lost_raylet(lab: Lab) -> Row:
    """The node, with its trials; it is started again afterwards."""
    hosts: list[Host] = []

    def kill_raylet() -> None:
        hosts.append(lab.training_host())
        kill(hosts[0], RAYLET)

    row = _lost("a raylet is killed", lab, kill_raylet)
    start = "node.sh worker ray start --address=$RAY_HEAD_IP:6379 --object-manager-port=8076"
    hosts[0].run(in_login_shell(f"export RAY_HEAD_IP={HEAD}; bash ~/hkd/cluster/{start}"))
    wait_for_nodes(lab.head, 3)
    return row


def _lost(name: str, lab: Lab, break_it: Callable[[], None]) -> Row:
    study = lab.study(name)
    with study.start(lab.head) as session:
        study.wait_for_epochs(2, session)
        broken_at = study.now()
        break_it()
        message = session.wait_for_line("worker lost")
        lost = message.split(":")[0].strip()
        before, lost_at = study.epochs(), study.now()
        wait_until(lambda: study.newest(lost) > lost_at, f"an epoch of the second attempt of {lost}")
        seconds = study.newest_epoch_after(lost_at, lost) - broken_at
        code = session.end()
    return study.row(name, code, message, seconds, study.repeated(session, before))


def killed_driver(lab: Lab) -> Row:
    return _ended("the driver is killed (`kill -9`)", lab, "KILL", "--resume")


def interrupted_driver(lab: Lab) -> Row:
    return _ended("SIGINT to the driver", lab, "INT", "--resume")


def terminated_driver(lab: Lab) -> Row:
    return _ended("SIGTERM to the driver", lab, "TERM", "--resume")


def _ended(name: str, lab: Lab, signal: str, message: str) -> Row:
    """The driver ends; it is resumed, and the study runs to its end."""
    study = lab.study(name)
    with study.start(lab.head) as session:
        study.wait_for_epochs(3, session)
        kill(lab.head, study.driver_pattern, signal)
        code = session.end()
        first_line = session.wait_for_line(message)
    return _resumed(name, lab, study, code, first_line)


def _resumed(name: str, lab: Lab, study: Study, code: int, message: str = "", *, printed: str = "") -> Row:
    """The study is resumed, and runs to its end.

    Args:
        code, message: Of the session that ended.
        printed: Part of the resumed session's line that is the message instead.
    """
    before, started_at = study.epochs(), study.now()
    with study.start(lab.head, "--resume") as session:
        assert session.end() == 0, session.shown
        message = message or session.wait_for_line(printed)
    seconds = study.newest_epoch_after(started_at) - started_at
    return study.row(name, code, message, seconds, study.repeated(session, before))


def empty_checkpoint(lab: Lab) -> Row:
    """Zero bytes in the newest checkpoint of a trial, as after a crash of a file system."""
    name = "the newest checkpoint has zero bytes"
    study = lab.study(name)
    with study.start(lab.head) as session:
        study.wait_for_epochs(3, session)
        kill(lab.head, study.driver_pattern, "TERM")
        assert session.end() == 130
    trial = study.trials()["trial-001"]
    assert trial.checkpoint is not None
    os.truncate(study.folder / trial.checkpoint / "training_state.pt", 0)
    return _resumed(name, lab, study, 0, printed="because of")


def second_driver(lab: Lab) -> Row:
    """Another host starts the study that runs."""
    name = "a second driver on another host"
    study = lab.study(name, epochs=MANY_EPOCHS)
    with study.start(lab.head) as session:
        study.wait_for_epochs(2, session)
        before = study.epochs()
        with study.start(lab.workers[0], "--resume") as second:
            code = second.end()
            message = second.wait_for_line("another process")
        assert session.end() == 0, session.shown
    return study.row(name, code, message, 0.0, study.repeated(session, before))


def full_disk(lab: Lab) -> Row:
    name = "the shared folder's disk is full"
    study = lab.study(name)
    with study.start(lab.head) as session:
        study.wait_for_epochs(3, session)
        filler = lab.shared / "filler"
        # Enough for records of the ledger, but not for a checkpoint.
        fill_disk(filler, left=2**18)
        code = session.end()
        message = session.wait_for_line("is full")
    filler.unlink()
    return _resumed(name, lab, study, code, message)


def lost_mlflow(lab: Lab) -> Row:
    """The server is killed and started again by hand."""
    name = "the MLflow server is killed"
    study = lab.study(name, epochs=MANY_EPOCHS)
    with study.start(lab.head) as session:
        study.wait_for_epochs(2, session)
        kill_mlflow(lab.head)
        before = study.epochs()
        study.wait_for_epochs(5, session)
        started_at = study.now()
        lab.head.run("bash ~/hkd/cluster/node.sh mlflow")
        wait_until(lambda: logged_epochs(lab.head, study.name) > 0, "epochs in MLflow")
        seconds = study.now() - started_at
        code = session.end()
    assert logged_epochs(lab.head, study.name) == 2 * MANY_EPOCHS
    message = next((line for line in session.shown.splitlines() if "write to MLflow" in line), "none")
    return study.row(name, code, message, seconds, study.repeated(session, before))


def logged_epochs(head: Host, study: str) -> int:
    """Number of epochs of all trials of a study that MLflow has."""
    script = (
        "import mlflow; c = mlflow.MlflowClient('http://127.0.0.1:5000')\n"
        f"e = c.get_experiment_by_name('{study}')\n"
        "runs = c.search_runs([e.experiment_id]) if e else []\n"
        "print('epochs:', sum(len(c.get_metric_history(run.info.run_id, 'loss_total')) for run in runs))"
    )
    output = head.run(in_login_shell(f'python -c "{script}"'))
    return int(output.rpartition("epochs:")[2].split()[0])


def lost_bucket(lab: Lab) -> Row:
    """The server of S3 on a further machine is away for some seconds."""
    name = "the S3 server is away for 20 s"
    with S3Server("10.77.0.1") as server:
        lines = [f"{key.lower()} = {value}" for key, value in CREDENTIALS.items() if key != "AWS_DEFAULT_REGION"]
        for host in (lab.head, *lab.workers):
            host.run(f"mkdir -p ~/.aws && printf '%s\\n' '[default]' {shlex.join(lines)} > ~/.aws/credentials")
        study = lab.study(name, storage=server.uri)
        with study.start(lab.head) as session:
            study.wait_for_epochs(2, session)
            server.stop()
            message = session.wait_for_line("cannot be used")
            before, stopped_at = study.epochs(), study.now()
            wait_until(lambda: study.now() - stopped_at > SECONDS_AWAY, "time")
            server.start()
            started_at = study.now()
            wait_until(lambda: study.newest() > started_at, "an epoch")
            seconds = study.newest_epoch_after(started_at) - started_at
            code = session.end()
    return study.row(name, code, message, seconds, study.repeated(session, before))


def lost_mount(lab: Lab) -> Row:
    """A worker loses its mount of the shared folder, and has it again after a while."""
    name = "a worker loses the mount of /shared"
    study = lab.study(name)
    with study.start(lab.head) as session:
        study.wait_for_epochs(2, session)
        host = lab.training_host()
        before, broken_at = study.epochs(), study.now()
        host.run("sudo umount --lazy /shared")
        wait_until(lambda: study.now() - broken_at > SECONDS_AWAY, "time")
        mount_shared_folder(lab.folder, host)
        mounted_at, epochs = study.now(), study.epochs()
        code = session.end()
    # The trial that waited is behind the other one.
    waiting = min(epochs, key=lambda trial_id: epochs[trial_id])
    seconds = study.newest_epoch_after(mounted_at, waiting) - mounted_at
    return study.row(name, code, "none", seconds, study.repeated(session, before))


FAULTS: dict[str, Callable[[Lab], Row]] = {
    "worker": lost_worker,
    "raylet": lost_raylet,
    "kill": killed_driver,
    "int": interrupted_driver,
    "term": terminated_driver,
    "second": second_driver,
    "mlflow": lost_mlflow,
    "s3": lost_bucket,
    "mount": lost_mount,
    "disk": full_disk,
    "zero": empty_checkpoint,
}
