# The image of deploy/k8s: `vss` as the user 10001, on a root file system that may be read-only.
#
#   docker build -t vss:0.1.0 .                                                                 ready vectors only
#   docker build -t vss:0.1.0 --build-arg REQUIREMENTS=deploy/requirements-models.lock .        and text: torch for CPUs
#
# Packages come from the locks of `make locks`, by hash, as wheels; only our own kernel is compiled, in the builder. The tag of the base image is
# exact, its digest is not given: it could not be looked up where this was written. Add it (FROM python:...@sha256:...).
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ARG REQUIREMENTS=deploy/requirements.lock
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /source
# The compiler stays in the builder; whichever patch of it Debian has today will do.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/*.lock deploy/
RUN python -m venv /opt/vss \
 && /opt/vss/bin/pip install --require-hashes --only-binary :all: -r ${REQUIREMENTS} \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r deploy/requirements-build.lock
# After the packages, so that a change of the sources does not install them anew.
COPY pyproject.toml setup.py README.md LICENSE ./
COPY vss vss
COPY embedders embedders
COPY indexers indexers
COPY api api
RUN VSS_WERROR=1 /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
 && /opt/vss/bin/pip install --no-index --no-deps /wheels/*.whl \
 && /opt/vss/bin/pip check

FROM ${PYTHON_IMAGE}
# The name is for libraries that ask who they run as; the number is what Kubernetes checks.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin vss \
 && install --directory --owner 10001 --group 10001 /data
COPY --from=builder /opt/vss /opt/vss
# Caches of libraries go to /tmp, the only place besides the data that can be written to.
ENV PATH=/opt/vss/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 6333
# Kubernetes has its own probes; this is for `docker run`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6333/livez', timeout=4)"]
ENTRYPOINT ["vss"]
CMD ["serve", "--data", "/data", "--host", "0.0.0.0", "--port", "6333"]
