# The broker's image: locked packages, no compiler, no root, and nothing that is written to: run it read-only. BASE may be
# any image with Python 3.11 to 3.14.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# Installed from outside: no installer travels along.
RUN python3 -m venv --without-pip /opt/broker && python3 -m venv /opt/build
ENV INSTALL="/opt/build/bin/python -m pip --python /opt/broker/bin/python install --no-cache-dir --no-compile --no-deps"
COPY requirements.lock requirements-dev.lock ./
RUN $INSTALL --require-hashes -r requirements.lock
RUN /opt/build/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY broker broker
COPY clients/python clients/python
COPY proto proto
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && $INSTALL /dist/*.whl
# Here, since the broker can't: it would compile itself at every start. By hash: a file's time may change as it is copied.
RUN /opt/broker/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/broker/lib

FROM ${BASE}
COPY --from=build /opt/broker /opt/broker
ENV PATH=/opt/broker/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080 50051
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/readyz' % os.environ.get('TOKEN_BROKER_HTTP_ADDRESS', ':8080').rpartition(':')[2], timeout=2)"]
ENTRYPOINT ["token-broker"]
CMD ["serve"]
