# syntax=docker/dockerfile:1
# The image of the GPU classify worker and the training worker: TensorFlow with its own CUDA libraries, so that the
# host needs the NVIDIA driver and the container toolkit, and nothing else. Linux on x86_64.
# Build from the repository's root: docker build -f docker/gpu.Dockerfile .

FROM python:3.12-slim-bookworm AS packages
WORKDIR /build
COPY requirements-gpu.lock .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r requirements-gpu.lock

FROM python:3.12-slim-bookworm
RUN groupadd --gid 10001 neurosight \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin neurosight \
    && install -d -o neurosight -g neurosight /spool /models /training
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY config/ config/
COPY db/ db/
COPY imaging/ imaging/
COPY inference/ inference/
COPY exchange/ exchange/
COPY training/ training/
COPY worker/ worker/
COPY ops/ ops/
COPY migrations/ migrations/
COPY models/ models/
COPY --chown=10001:10001 models/ /models/
COPY LICENSE NOTICE pyproject.toml ./
# Stands in every result: docker build --build-arg COMMIT=$(git rev-parse HEAD) ...
ARG COMMIT=""
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NEUROSIGHT_COMMIT=${COMMIT} \
    NEUROSIGHT_VAR_DIR=/spool/var \
    TMPDIR=/spool \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TF_FORCE_GPU_ALLOW_GROWTH=true
USER 10001:10001
CMD ["python", "-m", "worker", "classify"]
