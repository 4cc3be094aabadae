#!/usr/bin/env bash
# What the tests leave out, as it takes minutes and installs 6 GB: `cluster/node.sh install` with the real apt and uv, as
# Ray wraps it, on a new Debian whose apt is locked, as after a first boot; then once more.
#
#   tests/cluster/install_in_debian.sh FOLDER [PYTHON]
#
# FOLDER receives the Debian (debootstrap, once) and keeps uv's cache. PYTHON (default: python3.11) is used on it, so that
# uv downloads no interpreter. Needs root, debootstrap, rsync, and access to Debian's and Python's packages.
set -euo pipefail

if [[ -z "${INSTALL_STARTED:-}" ]]; then
    exec env INSTALL_STARTED=1 unshare --mount --pid --fork --kill-child -- "$0" "$@"
fi
folder="$1"
python="$(readlink -f "$(command -v "${2:-python3.11}")")"
prefix="$(dirname "$(dirname "$python")")"
checkout="$(cd "$(dirname "$0")/../.." && pwd)"
root="$folder/debian"
home="$root/root" # of the user root in it

mount --make-rprivate /
[[ -e "$root/ready" ]] || {
    debootstrap --variant=minbase --include=python3-minimal,sudo,ca-certificates bookworm "$root"
    touch "$root/ready"
}
mkdir -p "$root$prefix" "$home/hkd" "$home/.cache/uv" "$folder/uv"
mount --bind "$prefix" "$root$prefix"
mount --bind "$folder/uv" "$home/.cache/uv"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
# Certificates and mirrors of this machine.
cp -L --remove-destination /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
if [[ -e /etc/pip.conf ]]; then cp -L /etc/pip.conf "$root/etc/"; fi
for name in hkd sweeps analysis cluster pyproject.toml constraints.txt README.md; do
    rsync -a --delete --exclude __pycache__ "$checkout/$name" "$home/hkd/"
done
mapfile -t mirrors < <(env | grep -E '^(PIP_|UV_|SSL_)' || true)
# A login shell with the variables of Ray's launcher. 15 seconds: the locks of a first boot.
chroot "$root" env -i HOME=/root TERM=xterm PATH=/usr/sbin:/usr/bin:/sbin:/bin "${mirrors[@]}" \
    UV_LINK_MODE=symlink HKD_PYTHON="$python" bash --login -c -i '
    python3 -c "
import fcntl, time
files = [open(name, \"w\") for name in (\"/var/lib/apt/lists/lock\", \"/var/lib/dpkg/lock-frontend\")]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
time.sleep(15)" &
    sleep 1
    set -e
    source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && (bash ~/hkd/cluster/node.sh install)
    source ~/.bashrc; export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore && (bash ~/hkd/cluster/node.sh install)
    source ~/.bashrc
    ray --version
    python -c "import hkd, torch, boto3, sys; print(hkd.__file__, torch.__version__, sys.version)"'
