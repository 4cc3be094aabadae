#!/usr/bin/env bash
# What the nodes of a Ray cluster execute. ray_cluster.yaml, cluster/on_premise.yaml and cluster/gcp.yaml call this file
# by `bash ~/hkd/cluster/node.sh COMMAND`, so that these commands have one source.
#
#   install         all nodes: system packages, Python and this checkout in ~/hkd/.venv
#   share           head: create /shared and export it to the workers by NFS
#   head ray ...    head: create the token, start the MLflow server, then execute `ray ...`
#   worker ray ...  workers: mount the head's /shared, then execute `ray ...`
#   mlflow          head: start the MLflow server, unless it runs; no cluster file calls this
#
# Every command can be repeated. Where /shared is a mount already (a network file system of your own), it is used as it
# is. Variables, in ~/.profile of all nodes: HKD_PYTHON, an exact version or the path of an interpreter, and those of uv
# (UV_DEFAULT_INDEX, ...), for machines without access to the internet; HKD_MLFLOW_PORT, where 5000 is in use.
set -euo pipefail

CHECKOUT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# An exact version: Ray refuses workers with another patch version of Python than the head's.
PYTHON="${HKD_PYTHON:-3.11.18}"
UV_FOLDER=~/.local/share/hkd/uv
SHARED=/shared
MLFLOW_FOLDER=~/mlflow
MLFLOW_LOG="$MLFLOW_FOLDER/server.log"
MLFLOW_PORT="${HKD_MLFLOW_PORT:-5000}"
MLFLOW_URI="http://127.0.0.1:$MLFLOW_PORT"
PROFILE=~/.hkd_profile

fail() {
    echo "node.sh: $*" >&2
    exit 1
}

# Install Debian packages. A new machine holds apt's locks for minutes after its first boot.
apt_install() {
    local attempt
    for attempt in {1..30}; do
        sudo apt-get -o DPkg::Lock::Timeout=300 -qq update && break
        ((attempt < 30)) || fail "apt-get update failed 30 times"
        sleep 10
    done
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "$@"
}

install_system_packages() {
    local missing=() name
    for name in curl tmux; do
        command -v "$name" > /dev/null || missing+=("$name")
    done
    python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
    ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
}

install_uv() {
    local version
    version="$(sed -n 's/^uv==//p' "$CHECKOUT/constraints.txt")"
    if [[ "$("$UV_FOLDER/bin/uv" --version 2> /dev/null)" != "uv $version"* ]]; then
        python3 -m venv --clear "$UV_FOLDER"
        "$UV_FOLDER/bin/pip" install --quiet --disable-pip-version-check "uv==$version"
    fi
}

install_checkout() {
    local venv="$CHECKOUT/.venv"
    if [[ "$(cat "$venv/python_version" 2> /dev/null)" != "$PYTHON" ]]; then
        "$UV_FOLDER/bin/uv" venv --clear --python "$PYTHON" "$venv"
        echo "$PYTHON" > "$venv/python_version"
    fi
    (cd "$CHECKOUT" && "$UV_FOLDER/bin/uv" pip install --python "$venv/bin/python" \
        -c constraints.txt -c cluster/constraints.txt -e '.[cluster]')
}

# For every shell of `ray exec`, `ray attach` and Ray's launcher, which read ~/.bashrc.
write_profile() {
    cat > "$PROFILE" << EOF
export PATH="$CHECKOUT/.venv/bin:\$PATH"
export RAY_AUTH_MODE=token
export MLFLOW_TRACKING_URI=$MLFLOW_URI
EOF
    grep -qsF "$PROFILE" ~/.bashrc || echo ". $PROFILE" >> ~/.bashrc
}

# `ln` would put its link into an existing folder, and the node would use files of its own without notice.
link_to_shared() {
    local name link
    for name in runs data; do
        link="$CHECKOUT/$name"
        [[ -L "$link" || ! -e "$link" ]] ||
            fail "$link exists and is no link: move it away, the cluster's files are in $SHARED/$name"
    done
    for name in runs data; do
        ln -sfn "$SHARED/$name" "$CHECKOUT/$name"
    done
}

install() {
    # A checkout in which somebody works: its environment would be deleted.
    [[ ! -e "$CHECKOUT/.git" ]] ||
        fail "$CHECKOUT is a git repository: move it away, the cluster uses this folder for its own copy"
    # With the paths of a study on one machine, runs/ and data/, all nodes see the same files.
    link_to_shared
    install_system_packages
    install_uv
    install_checkout
    write_profile
    [[ -d "$SHARED" ]] || sudo mkdir "$SHARED"
}

# The hosts that may mount /shared: the workers of an on-premise cluster, or all private networks, where the cloud's
# firewall decides.
nfs_clients() {
    "$CHECKOUT/.venv/bin/python" - << 'EOF'
import pathlib, yaml
file = pathlib.Path("~/ray_bootstrap_config.yaml").expanduser()
provider = yaml.safe_load(file.read_text()).get("provider", {}) if file.exists() else {}
print(*provider.get("worker_ips", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]))
EOF
}

share() {
    if ! mountpoint -q "$SHARED"; then
        local line="$SHARED" client clients
        # Not in the `for` below, which would ignore a failure. A line without clients exports to everyone.
        clients="$(nfs_clients)"
        [[ -n "$clients" ]] || line=""
        for client in $clients; do
            line+=" $client(rw,async,no_subtree_check)"
        done
        command -v exportfs > /dev/null || [[ -x /usr/sbin/exportfs ]] || apt_install nfs-kernel-server
        sudo chown "$(id -u):$(id -g)" "$SHARED"
        sudo mkdir -p /etc/exports.d
        echo "$line" | sudo tee /etc/exports.d/hkd.exports > /dev/null
        sudo exportfs -ra
    fi
    mkdir -p "$SHARED/runs" "$SHARED/data"
}

mount_shared() {
    mountpoint -q "$SHARED" && return
    : "${RAY_HEAD_IP:?is set by Ray on workers}"
    [[ -x /sbin/mount.nfs4 ]] || apt_install nfs-common
    sudo mount -t nfs4 "$RAY_HEAD_IP:$SHARED" "$SHARED"
}

# Workers start from the head's image: the role that Ray gives to the head may not resolve names of images, and workers
# that start days later would have a newer image.
use_image_of_head() {
    local config=~/ray_bootstrap_config.yaml metadata=http://169.254.169.254/latest token image
    grep -qs resolve:ssm: "$config" || return 0
    token="$(curl -fsS --noproxy '*' -m 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")"
    image="$(curl -fsS --noproxy '*' -m 10 -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/ami-id")"
    [[ "$image" == ami-* ]] || fail "the instance metadata names no image: ${image:0:80}"
    sed -i "s#resolve:ssm:[^\"' ]*#$image#g" "$config"
}

# The lock is held while the server runs: a second one is not started. `pgrep -f` would find the launcher's own shell,
# whose arguments contain this command.
start_mlflow() {
    mkdir -p -m 700 "$MLFLOW_FOLDER"
    flock --nonblock "$MLFLOW_FOLDER/lock" true || return 0
    if (exec 3<> "/dev/tcp/127.0.0.1/$MLFLOW_PORT") 2> /dev/null; then
        fail "port $MLFLOW_PORT is used by another process than this cluster's MLflow server: stop that process, or set" \
            "HKD_MLFLOW_PORT to a free port in ~/.profile and repeat \`ray up\`"
    fi
    # Without MLflow's own jobs: seven processes, which no study uses.
    (
        cd "$MLFLOW_FOLDER"
        umask 077
        export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
        exec setsid nohup flock --nonblock lock mlflow server --host 127.0.0.1 --port "$MLFLOW_PORT" --workers 1 \
            --backend-store-uri "sqlite:///$MLFLOW_FOLDER/mlflow.db" \
            --artifacts-destination "$MLFLOW_FOLDER/artifacts" >> "$MLFLOW_LOG" 2>&1 < /dev/null
    ) &
    mlflow_process=$!
}

# `mlflow_process`: the server that this command started, if none was running.
wait_for_mlflow() {
    local attempt
    for attempt in {1..300}; do
        curl -fs --noproxy '*' -m 5 "$MLFLOW_URI/health" > /dev/null && return
        if [[ -n "${mlflow_process:-}" ]] && ! kill -0 "$mlflow_process" 2> /dev/null; then
            tail -n 20 "$MLFLOW_LOG" >&2
            fail "the MLflow server ended before it answered; its log: $MLFLOW_LOG"
        fi
        sleep 1
    done
    tail -n 20 "$MLFLOW_LOG" >&2
    fail "the MLflow server did not answer at $MLFLOW_URI within $attempt attempts, one per second; its log: $MLFLOW_LOG"
}

prepare_ray() {
    # shellcheck source=/dev/null
    . "$PROFILE"
    # Of Ray's launcher, for its own commands: trials would inherit them.
    unset OMP_NUM_THREADS PYTHONWARNINGS
    ulimit -n "$(ulimit -Hn)"
    ray stop
}

# Ray gives up after half a minute, which a busy or new machine may exceed.
start_ray() {
    local attempt
    for attempt in {1..4}; do
        "$@" && return
        ray stop
    done
    fail "'$*' failed in $attempt attempts"
}

start_head() {
    prepare_ray
    mkdir -p -m 700 ~/.ray
    (umask 077 && ray get-auth-token --generate > /dev/null)
    chmod 600 ~/.ray/auth_token
    use_image_of_head
    start_ray "$@"
    start_mlflow
    wait_for_mlflow
}

start_worker() {
    mount_shared
    [[ -s ~/.ray/auth_token ]] || fail "there is no ~/.ray/auth_token: cluster_synced_files must copy it from the head"
    chmod 600 ~/.ray/auth_token
    prepare_ray
    start_ray "$@"
}

restart_mlflow() {
    # shellcheck source=/dev/null
    . "$PROFILE"
    start_mlflow
    wait_for_mlflow
}

command="${1:-}"
shift || true
case "$command" in
    install | share) "$command" ;;
    head | worker) "start_$command" "$@" ;;
    mlflow) restart_mlflow ;;
    *) fail "unknown command '$command'; it is one of: install, share, head, worker, mlflow" ;;
esac
