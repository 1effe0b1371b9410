# The image of docker-register, and one of its reading role with HAProxy inside:
#
#   docker build -t docker-register .
#   docker build -t docker-discover --target discover .
#   docker run -d --network host -e ETCD_HOST=10.0.0.1:2379 docker-discover
#
# Either base can be another one, such as a mirror's: --build-arg RUNTIME=registry.acme.com/distroless/cc-debian12
ARG BUILDER=rust:1-bookworm
# The C library, CA certificates and little else: no shell, no package manager. A static program in an empty image would
# be some 20 MB smaller, with musl's allocator and resolver, which no test of this project runs with.
ARG RUNTIME=gcr.io/distroless/cc-debian12
# Any with HAProxy 2.6 or newer in its packages.
ARG DISCOVER=debian:12-slim

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
# With a volume and STATE_DIRECTORY=/its/path, it renews its keys even if it starts while Docker does not answer.
ENTRYPOINT ["docker-register"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=1m CMD ["docker-register", "healthcheck"]

# The same for the reading role. It listens on addresses of the host, so it runs with --network host.
FROM ${DISCOVER} AS discover-runtime
LABEL org.opencontainers.image.title="docker-register discover" \
      org.opencontainers.image.description="Keeps a HAProxy in step with the services that are registered in etcd" \
      org.opencontainers.image.licenses="MIT"
LABEL SERVICE_IGNORE=true
ENV DOCKER_REGISTER_LISTEN=127.0.0.1:9381
ENTRYPOINT ["docker-register", "discover"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=1m CMD ["docker-register", "healthcheck"]

FROM ${BUILDER} AS builder
RUN apt-get update && \
    apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --target-dir /target && make --silent licences >/target/licences

FROM discover-runtime AS discover
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates haproxy && \
    rm -rf /var/lib/apt/lists/*
COPY --from=builder /target/licences /usr/share/doc/docker-register/
COPY --from=builder /target/release/docker-register /usr/local/bin/

FROM runtime
COPY --from=builder /target/licences /usr/share/doc/docker-register/
COPY --from=builder /target/release/docker-register /usr/local/bin/
