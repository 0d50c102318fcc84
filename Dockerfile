# syntax=docker/dockerfile:1
# One image for every role; its argument is the role: `docker run millpond api --redis-url ...`.

FROM python:3.11-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Paddle's CPU and GPU libraries are linked against OpenMP.
# Not pinned: the base's security updates must come in.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --create-home --uid 10001 millpond \
    && install --directory --owner millpond /var/cache/millpond /var/lib/millpond
WORKDIR /opt/millpond
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY api api
COPY pooling pooling
COPY scheduler scheduler
COPY workers workers
ENV MILLPOND_CACHE_DIR=/var/cache/millpond MILLPOND_DATA_DIR=/var/lib/millpond
ENTRYPOINT ["millpond"]
CMD ["serve"]
EXPOSE 8000 9100

FROM base AS cpu
RUN pip install --constraint constraints.txt '.[cpu]'
USER 10001

FROM base AS gpu
# Version 3 of paddlepaddle-gpu comes from Paddle's own package index, one for each CUDA version.
ARG PADDLE_INDEX
RUN test -n "$PADDLE_INDEX" || { echo "build with --build-arg PADDLE_INDEX=<index of your CUDA version>"; exit 1; } \
    && pip install --constraint constraints.txt . \
    && pip install --index-url "$PADDLE_INDEX" 'paddlepaddle-gpu>=3.3,<3.4'
USER 10001
