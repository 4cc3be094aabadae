# The image of kubernetes/*.yaml: this checkout, installed with the versions of the constraints, for a user without rights.
#   docker build -t hkd:0.1 .
# The driver of the GPUs is the machine's; torch's wheels have the CUDA libraries.
FROM python:3.11.18-slim-bookworm

# The probes of the pods call wget. Not every builder creates WORKDIR for the user.
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 hkd \
    && install --directory --owner hkd --group hkd /home/hkd/hkd

USER hkd
WORKDIR /home/hkd/hkd
ENV PATH="/home/hkd/hkd/.venv/bin:/home/hkd/.local/bin:$PATH" \
    UV_LINK_MODE=copy \
    PYTHONUNBUFFERED=1

# Dependencies first: a change of the source alone does not install them again.
COPY --chown=hkd:hkd pyproject.toml constraints.txt README.md ./
COPY --chown=hkd:hkd cluster/constraints.txt cluster/
COPY --chown=hkd:hkd hkd/__init__.py hkd/
RUN pip install --user --no-cache-dir --disable-pip-version-check -c constraints.txt uv \
    && uv venv --python /usr/local/bin/python3.11 .venv \
    && uv pip install --no-cache --python .venv/bin/python -c constraints.txt -c cluster/constraints.txt -e '.[cluster]'

COPY --chown=hkd:hkd hkd hkd
COPY --chown=hkd:hkd sweeps sweeps
COPY --chown=hkd:hkd analysis analysis
RUN uv pip install --no-cache --python .venv/bin/python --no-deps -e .
