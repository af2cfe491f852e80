# syntax=docker/dockerfile:1
# The image of web, dispatcher, intake and the CPU classify worker: no TensorFlow inside.
# Build from the repository's root: docker build -f docker/cpu.Dockerfile .

FROM python:3.12-slim-bookworm AS packages
WORKDIR /build
COPY requirements-containers.lock .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
       -r requirements-containers.lock

FROM python:3.12-slim-bookworm
# A fixed number, so that volumes keep their owner over rebuilds.
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
COPY worker/ worker/
COPY web/ web/
COPY gateway/ gateway/
COPY client/ client/
COPY ops/ ops/
COPY migrations/ migrations/
COPY examples/ examples/
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
    TMPDIR=/spool
USER 10001:10001
CMD ["python", "-m", "ops", "--help"]
