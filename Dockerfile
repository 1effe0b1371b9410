# The image of docker-register:
#
#   docker build -t docker-register .
#
# Either base can be another one, such as a mirror's: --build-arg RUNTIME=registry.acme.com/distroless/cc-debian12
ARG BUILDER=rust:1-bookworm
# The C library, CA certificates and little else: no shell, no package manager. A static program in an empty image would
# be some 20 MB smaller, with musl's allocator and resolver, which no test of this project runs with.
ARG RUNTIME=gcr.io/distroless/cc-debian12

# Everything but the program, so that tests can try it on a base that was made where nothing can be pulled.
FROM ${RUNTIME} AS runtime
LABEL org.opencontainers.image.title="docker-register" \
      org.opencontainers.image.description="Keeps etcd in step with the containers that run on a Docker host" \
      org.opencontainers.image.licenses="MIT"
# It does not register itself, even where its port is published, unless it is run with --label SERVICE_IGNORE=false.
LABEL SERVICE_IGNORE=true
# Where the health check asks, in the container alone. Another address is set here too, for a flag is not known to the check.
ENV DOCKER_REGISTER_LISTEN=127.0.0.1:9380
# It starts as root, for whom the socket is, and needs nothing else that root may do. It may be run as any user that may
# read the socket: --user 65534 --group-add "$(stat -c %g /var/run/docker.sock)"
ENTRYPOINT ["docker-register"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=1m CMD ["docker-register", "healthcheck"]

FROM ${BUILDER} AS builder
RUN apt-get update && \
    apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --target-dir /target

FROM runtime
COPY --from=builder /target/release/docker-register /usr/local/bin/
