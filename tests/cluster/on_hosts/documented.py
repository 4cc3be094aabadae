"""The commands of docs/cluster.md, in the order of the page, on machines of one's own with SSH servers.

Replaced are the addresses, the name of the cluster file, and the studies by small ones.
"""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from pathlib import Path

from hkd.data.sources.pennfudan import convert
from sweeps.trials.records.trial import read_trials
from tests.cluster.document import documented_commands
from tests.cluster.on_hosts.checks import check_services, check_tiny_study, kill_mlflow, nodes_of_trials
from tests.cluster.on_hosts.hosts import HEAD, REPOSITORY, TINY_STUDY, USER, WORKERS, Host, wait_for_nodes
from tests.cluster.on_hosts.photographs import write_photographs
from tests.cluster.on_hosts.user import User, wait_until

CLUSTER_FILE = "cluster/on_premise.yaml"
DETACH = b"\x02d"  # ctrl-b d, of tmux

TINY_PHOTOGRAPHS = (
    "search.num_trials=1",
    "base.data.image_height=96",
    "base.data.image_width=96",
    "base.teacher.init_from_synthetic=null",
    "base.teacher.training.total_epochs=1",
    "base.training.total_epochs=1",
    "resources.max_concurrent_trials=3",
)
"""The study of sweeps/configs/pennfudan.yaml, of one epoch each and without pretraining."""


def documented(folder: Path) -> None:
    """What a user does who reads the page from top to bottom."""
    user = User(folder)
    write_cluster_file(user, folder / "key")
    head, workers = Host(HEAD, folder / "key"), [Host(address, folder / "key") for address in WORKERS]
    (block,) = documented_commands("Machines of your own")
    up, *studies, runs_down, reports_down, down = block
    user.run(up)
    wait_for_nodes(head, 1 + len(workers))
    check_services(head, workers)
    for command in studies:
        user.run(with_tiny_studies(command, 1))
    # Every trial needs the one GPU that its node pretends to have, and all three start at once.
    nodes = nodes_of_trials(head)
    assert nodes == {HEAD, *WORKERS}, nodes
    shared = folder / "shared" / "runs"
    check_tiny_study(shared)
    long_study(user, shared)
    own_data(user, shared)
    mlflow(user, head)
    job(user, shared)
    user.run(runs_down)
    user.run(reports_down)
    user.run(down)
    check_tiny_study(user.checkout / "runs", num_sampled=3)
    check_tiny_study(user.checkout / "runs", "pennfudan")
    assert (user.checkout / "reports" / "demo" / "report.html").is_file()


def write_cluster_file(user: User, key: Path) -> None:
    """Fill in the four lines of cluster/on_premise.yaml, in a copy of the folder."""
    text = (REPOSITORY / CLUSTER_FILE).read_text(encoding="utf-8")
    for example, own in {
        "192.0.2.10": HEAD,
        "[192.0.2.11, 192.0.2.12]": f"[{', '.join(WORKERS)}]",
        "~/.ssh/id_ed25519": str(key),
        "ssh_user: ubuntu": f"ssh_user: {USER}",
    }.items():
        assert text.count(example) == 1, example
        text = text.replace(example, own)
    folder = user.checkout / "cluster"
    folder.unlink()
    folder.mkdir()
    for file in (REPOSITORY / "cluster").iterdir():
        (folder / file.name).symlink_to(file)
    file = user.checkout / CLUSTER_FILE
    file.unlink()
    file.write_text(text, encoding="utf-8")


def with_tiny_studies(command: str, num_trials: int, settings: tuple[str, ...] = TINY_STUDY[1:]) -> str:
    """The command with the machines' cluster file, and with settings that make its study small."""
    tiny = " ".join(f"--set {setting}" for setting in (f"search.num_trials={num_trials}", *settings))
    command = command.replace("ray_cluster.yaml", CLUSTER_FILE)
    return command.replace("python sweeps/run.py", f"python sweeps/run.py {tiny}")


def long_study(user: User, shared: Path) -> None:
    """One more trial, in tmux: the command ends at once, the study is shown, and continues without its reader."""
    ((start, attach),) = documented_commands("A long study")
    with user.terminal(with_tiny_studies(start, 2)) as terminal:
        assert terminal.end() == 0, terminal.shown
    with user.terminal(with_tiny_studies(attach, 0)) as terminal:
        terminal.wait_for(r"demo")
        terminal.press(DETACH)
        terminal.wait_for(r"\[detached")
        assert terminal.end() == 0, terminal.shown
    wait_for_sampled_trials(shared / "demo", 2)


def wait_for_sampled_trials(study: Path, number: int) -> None:
    def finished() -> list[str]:
        trials = read_trials(study / "trials.journal")
        return [trial.trial_id for trial in trials if trial.role == "trial" and trial.status == "finished"]

    wait_until(lambda: len(finished()) == number, f"{number} finished trials of {study}")


def own_data(user: User, shared: Path) -> None:
    """A study of photographs that are copied to the cluster."""
    write_photographs(user.checkout / "downloads" / "PennFudanPed")
    # As `hkd data pennfudan` does, which takes 120 of 170 photographs for training.
    convert(user.checkout / "downloads" / "PennFudanPed", user.checkout / "data" / "pennfudan", train_images=6)
    (block,) = documented_commands("Own data")
    for command in block:
        user.run(with_tiny_studies(command, 1, TINY_PHOTOGRAPHS[1:]))
    check_tiny_study(shared, "pennfudan")


def mlflow(user: User, head: Host) -> None:
    """The server is killed and started again; at the forwarded port of this machine, it has both studies."""
    (attach,), (restart,) = documented_commands("MLflow and dashboard")
    kill_mlflow(head)
    user.run(with_tiny_studies(restart, 0))
    with user.terminal(with_tiny_studies(attach, 0)) as terminal:
        names: set[str] = set()

        def is_answered() -> bool:
            request = urllib.request.Request(
                "http://localhost:5000/api/2.0/mlflow/experiments/search",
                json.dumps({"max_results": 10}).encode(), {"Content-Type": "application/json"},
            )  # fmt: skip
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    names.update(each["name"] for each in json.load(answer)["experiments"])
            except OSError:
                return False
            return True

        wait_until(is_answered, f"MLflow at the forwarded port; {terminal.shown}")
        assert {"demo", "pennfudan"} <= names
        terminal.press(b"exit\n")
        terminal.end()


def job(user: User, shared: Path) -> None:
    """One more trial of the demo, as a job of the working copy through the forwarded port, with the token."""
    (install, attach), (fetch, export, submit, list_jobs) = documented_commands("Jobs")
    user.run(install)
    with user.terminal(with_tiny_studies(attach, 0)) as terminal:
        wait_until(lambda: is_open(8265), f"the dashboard at the forwarded port; {terminal.shown}")
        user.run(with_tiny_studies(fetch, 0))
        submitted = re.search(r"raysubmit_\w+", user.run(export, with_tiny_studies(submit, 3)))
        assert submitted is not None

        def is_ended() -> bool:
            jobs = user.run(export, list_jobs).split("JobDetails(")
            (state,) = [re.findall(r"JobStatus\.(\w+)", job) for job in jobs if submitted[0] in job]
            assert state[0] in {"PENDING", "RUNNING", "SUCCEEDED"}, jobs
            return state == ["SUCCEEDED"]

        wait_until(is_ended, "end of the job")
        wait_for_sampled_trials(shared / "demo", 3)
        terminal.press(b"exit\n")
        terminal.end()


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
