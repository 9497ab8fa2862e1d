# lossd in an image: docker build -t lossd .
# torch comes with CUDA and serves a CPU just as well, only gigabytes larger. The small image, for CPUs, is without
# torch:
#   docker build -t lossd --build-arg EXTRAS=cpu,otel,quota,postgres .
# Losses that an operator adds (LOSSD_LOSSES) need torch. Where another build of it is wanted than the usual index
# has, TORCH_INDEX_URL names an index, and TORCH=cpu or cuda what it must have given.

# The Python that the tests run on; constraints.txt and requirements.lock pin for it. scripts/build_image.sh gives
# both with the digests of the day, and writes them down: tags may come to mean other images.
ARG BUILDER_IMAGE=python:3.11
ARG BASE_IMAGE=python:3.11-slim

# It has a C compiler, which makes the kernel for CPUs; the image has none.
FROM ${BUILDER_IMAGE} AS builder
ARG EXTRAS=server,otel,quota,postgres
ARG TORCH=cuda
ARG TORCH_INDEX_URL=
# Whatever is installed, but for torch and what only torch needs, is a file that requirements.lock knows.
ARG HASHES=1
# An empty folder, for the image to copy: usage is kept there.
WORKDIR /var/lib/lossd
WORKDIR /src
COPY . .
# Every step is a script that the tests run too. The environment is made where it will be used: its
# commands hold its path.
RUN scripts/build_wheel.sh /wheels
RUN scripts/install_runtime.sh /opt/lossd /wheels/lossd-*.whl ${EXTRAS}

FROM ${BASE_IMAGE}
COPY --from=builder /opt/lossd /opt/lossd
# Nothing is written but usage, and by libraries that want a home: /var/lib/lossd is a volume, /tmp may be a
# tmpfs and all else read-only.
COPY --from=builder --chown=10001:10001 /var/lib/lossd /var/lib/lossd
VOLUME /var/lib/lossd
ENV PATH=/opt/lossd/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    LOSSD_USAGE_FILE=/var/lib/lossd/usage.sqlite3 \
    LOSSD_ADMIN_HOST=0.0.0.0 \
    LOSSD_ADMIN_PORT=8001 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 8001
# It asks the admin listener; without one, where the command line or LOSSD_PORT says, if that is a port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --start-interval=1s --retries=3 \
    CMD ["python", "-m", "lossd.health"]
# SIGTERM, Docker's own choice, drains.
ENTRYPOINT ["lossd"]
# Without teams the server serves whoever reaches the port, and refuses to start on this address until
# LOSSD_ALLOW_OPEN=1 says that only the right ones can: docker-compose.yml does, and publishes on loopback.
CMD ["serve", "--host", "0.0.0.0"]
