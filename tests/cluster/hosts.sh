#!/usr/bin/env bash
# Run a command beside COUNT hosts in namespaces of their own, which answer to SSH as machines would:
#
#   tests/cluster/hosts.sh COUNT FOLDER COMMAND...
#
# Host i (1 to COUNT) has the address 10.77.0.1i, the user hkd-host (sudo without a password, the key FOLDER/key),
# its own processes and shared memory, and a copy-on-write view of ROOT (default: this machine; or the folder of a
# debootstrap). SHARED (default: /shared) is one folder of all hosts, in place of a network file system: kernels without
# NFS can run this. SHARED_BYTES, if set, is its size.
# The command runs on a further host, 10.77.0.1, without a way out to any other network. When it ends, everything does.
# PREPARE, if set, is executed as root in each host's root before its SSH server starts. Needs root and openssh-server.
set -euo pipefail

if [[ -z "${HOSTS_STARTED:-}" ]]; then
    exec env HOSTS_STARTED=1 unshare --mount --net --pid --fork --kill-child --mount-proc -- "$0" "$@"
fi

count="$1"
folder="$2"
shift 2
ROOT="${ROOT:-/}"
SHARED="${SHARED:-/shared}"
pids=()

mount --make-rprivate /
ip link set lo up
# 77: this machine cannot do it, as in Automake's tests.
ip link add hosts type bridge || exit 77
ip link add probe1 type veth peer name probe2 || exit 77
ip link delete probe1
ip address add 10.77.0.1/24 dev hosts
ip link set hosts up
mount -t tmpfs -o mode=755 tmpfs "$folder"
mkdir "$folder"/probe{,.upper,.work}
mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$folder/probe.upper,workdir=$folder/probe.work" "$folder/probe" ||
    exit 77
umount "$folder/probe"
# Ray's launcher shares SSH connections there, with hosts of the same address in another run.
connections="/tmp/ray_ssh_$(id -un | tr -d '\n' | sha256sum | cut -c 1-10)"
mkdir -p "$connections"
mount -t tmpfs -o mode=700 tmpfs "$connections"
ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
install -d -o 4077 -g 4077 "$folder/shared"
if [[ -n "${SHARED_BYTES:-}" ]]; then
    mount -t tmpfs -o "size=$SHARED_BYTES,uid=4077,gid=4077,mode=755" tmpfs "$folder/shared"
fi

start_host() {
    local number="$1" base="$folder/host$1" root="$folder/host$1/root"
    mkdir -p "$base/upper" "$base/work" "$root"
    mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$base/upper,workdir=$base/work" "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,home} "$root$SHARED"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t tmpfs tmpfs "$root/dev/shm"
    # Files of this machine's own Ray; the rest of /tmp may hold the checkout.
    mkdir -p "$root/tmp/ray"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp/ray"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount --bind "$folder/shared" "$root$SHARED"
    mkdir -p "$root/run/sshd"
    echo "10.77.0.1$number host$number" >> "$root/etc/hosts"
    FOLDER="$folder" unshare --net --pid --mount --uts --ipc --fork --kill-child -- bash -ec '
        root="$1" number="$2"
        hostname "host$number"
        mount -t proc proc "$root/proc"
        chroot "$root" bash -ec "
            useradd -m -s /bin/bash -u 4077 -U hkd-host
            usermod -p \"*\" hkd-host
            echo \"hkd-host ALL=(ALL) NOPASSWD:ALL\" > /etc/sudoers.d/hkd-host
            ssh-keygen -A > /dev/null"
        install -d -m 700 -o 4077 -g 4077 "$root/home/hkd-host/.ssh"
        install -m 600 -o 4077 -g 4077 "$FOLDER/key.pub" "$root/home/hkd-host/.ssh/authorized_keys"
        if [[ -n "${PREPARE:-}" ]]; then chroot "$root" bash -ec "$PREPARE"; fi
        ip link set lo up
        until ip link show "v$number" > /dev/null 2>&1; do sleep 0.05; done
        ip address add "10.77.0.1$number/24" dev "v$number"
        ip link set "v$number" up
        exec chroot "$root" /usr/sbin/sshd -D -e -o UsePAM=no -o MaxStartups=100 -o AcceptEnv=no' \
        - "$root" "$number" > "$base/sshd.log" 2>&1 &
    local pid=$!
    pids[number]=$pid
    until [[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.05; done
    ip link add "p$number" type veth peer name "v$number" netns "$pid"
    ip link set "p$number" master hosts up
}

for number in $(seq "$count"); do
    start_host "$number"
done
for number in $(seq "$count"); do
    until (exec 3<> "/dev/tcp/10.77.0.1$number/22") 2> /dev/null; do
        kill -0 "${pids[number]}" 2> /dev/null || { cat "$folder/host$number/sshd.log" >&2; exit 1; }
        sleep 0.1
    done
done
"$@"
