# One image for all processes; the command says which (see Procfile and docker-compose.yml).
# Build: docker build -t tiercast .

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements requirements
# What runs is installed by hash into an environment of its own, without pip.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv install --require-hashes --only-binary :all: -r requirements/base.txt
# What builds our own package comes from the other lock file, and stays behind in this stage.
RUN python -m venv /opt/tools \
 && /opt/tools/bin/pip install --require-hashes --only-binary :all: -r requirements/dev.txt
COPY . .
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/venv install --no-deps --no-index dist/*.whl

FROM python:3.13-slim
# The spool's folder is there so that a volume mounted on it belongs to the user.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin tiercast \
 && install -d -m 700 -o tiercast -g tiercast /var/spool/tiercast
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TIERCAST_CONFIG=/etc/tiercast/tiercast.toml \
    TIERCAST_LOG_FORMAT=json
WORKDIR /home/tiercast
USER 10001
EXPOSE 8080
# For the receiver, which is the default command; docker-compose.yml says it for the others.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["python", "-m", "receiver", "--host", "0.0.0.0", "--port", "8080"]
