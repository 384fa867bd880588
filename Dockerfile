# The broker's image: locked packages, no compiler, no root. BASE may be any image with Python 3.11 to 3.14.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/broker && python3 -m venv /opt/build
COPY requirements.lock requirements-dev.lock ./
RUN /opt/broker/bin/python -m pip install --no-cache-dir --no-compile --no-deps --require-hashes -r requirements.lock
RUN /opt/build/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY broker broker
COPY clients/python clients/python
COPY proto proto
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/broker/bin/python -m pip install --no-cache-dir --no-compile --no-deps /dist/*.whl \
    && /opt/broker/bin/python -m pip uninstall --yes pip

FROM ${BASE}
COPY --from=build /opt/broker /opt/broker
ENV PATH=/opt/broker/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/readyz' % os.environ.get('TOKEN_BROKER_HTTP_ADDRESS', ':8080').rpartition(':')[2], timeout=2)"]
ENTRYPOINT ["token-broker"]
CMD ["serve"]
