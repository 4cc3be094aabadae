#!/usr/bin/env bash
# Stands for uv in the hosts of tests: its virtual environments have the packages of the tests' interpreter, which takes
# a second and no network. LENDER: the bin folder of that interpreter.
set -euo pipefail
case "$1" in
    --version) echo "uv $VERSION" ;;
    venv) "$LENDER/python" -c 'import sys, venv; venv.create(sys.argv[1], clear=True)' "${@: -1}" ;;
    pip)
        # uv pip install [--python VENV/bin/python] ... in the checkout
        venv="${VIRTUAL_ENV:-}"
        if [[ "$3" == --python ]]; then venv="$(dirname "$(dirname "$4")")"; fi
        "$LENDER/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$venv/lender"
        printf '%s\n' "$PWD" "$(cat "$venv/lender")" > "$("$venv/bin/python" -c \
            'import sysconfig; print(sysconfig.get_path("purelib"))')/lender.pth"
        for name in ray mlflow; do
            sed "1s|.*|#!$venv/bin/python|" "$LENDER/$name" > "$venv/bin/$name"
            chmod +x "$venv/bin/$name"
        done
        ;;
esac
