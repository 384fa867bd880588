# The broker's image: locked packages, no compiler, no installer, no root, and nothing that is written to: run it
# read-only. docs/image.md tells of it. BASE may be any image with glibc, libstdc++ and Python 3.11 to 3.14.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# Installed from outside: no installer travels along.
RUN python3 -m venv --without-pip /opt/broker && python3 -m venv /opt/build
ENV INSTALL="/opt/build/bin/python -m pip --python /opt/broker/bin/python install --no-cache-dir --no-compile --no-deps"
COPY requirements.lock requirements-build.lock ./
# How pip reaches your registry, where it needs to be told, is lent to these two lines alone and stays in no layer.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=registry-ca \
    $INSTALL --require-hashes -r requirements.lock \
    && /opt/build/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY broker broker
COPY clients/python clients/python
COPY proto proto
# Compiled here, since the broker can't: it would compile itself at every start. By hash: a file's time may change as it
# is copied. The last line tells at once of a base that lacks something.
RUN /opt/build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
    && $INSTALL --no-index /dist/*.whl \
    && /opt/broker/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/broker/lib \
    && PYTHONDONTWRITEBYTECODE=1 /opt/broker/bin/token-broker --help >/dev/null

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Envoy Token Broker" \
      org.opencontainers.image.description="Keeps the OAuth tokens of Envoy (envoy.com) app installs, and hands out valid ones over gRPC." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/broker /opt/broker
ENV PATH=/opt/broker/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080 50051 9090
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-IBm", "broker.healthcheck"]
ENTRYPOINT ["token-broker"]
CMD ["serve"]
