# A stand-in for clickhouse/clickhouse-server: the same engine (chDB) on the same port behind the HTTP interface of
# pipeline/local/clickhouse.py. It has no users, profiles or row policies: who comes is not asked.
ARG BASE
FROM ${BASE}
COPY requirements.lock /tmp/requirements.lock
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends wget >/dev/null && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/clickhouse \
    && /opt/clickhouse/bin/pip install --quiet --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.lock \
    && rm /tmp/requirements.lock
COPY pipeline /opt/pipeline/pipeline
COPY infra/chdb /opt/pipeline/infra/chdb
ENV PYTHONPATH=/opt/pipeline PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The owner of the data in the official image.
RUN useradd --uid 101 clickhouse && install -d -o clickhouse /var/lib/clickhouse
USER clickhouse
EXPOSE 8123
VOLUME /var/lib/clickhouse
LABEL meterline.stand-in=clickhouse
CMD ["/opt/clickhouse/bin/python", "-m", "pipeline.local.clickhouse", "--data", "/var/lib/clickhouse", "--port", "8123", "--listen", "0.0.0.0"]
