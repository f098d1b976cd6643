# The server in a small image: nothing but the binary, a user of its own and no way to install more.
#
#   docker build -t quetra .
#   docker run --rm -p 127.0.0.1:7070:7070 quetra serve --help
#
# Debian's own Rust is older; the version is the one of Cargo.toml.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY proto proto
COPY src src
COPY tests/bench tests/bench
COPY tests/mcp/fixtures tests/mcp/fixtures
RUN cargo build --locked --release --bin quetra && strip target/release/quetra

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/quetra --create-home \
    --shell /usr/sbin/nologin quetra
COPY --from=build /build/target/release/quetra /usr/local/bin/quetra
USER 10001:10001
WORKDIR /var/lib/quetra
EXPOSE 7070
# Whether this process serves, not whether its stores do: a restart would not mend those.
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 \
    CMD ["quetra", "health", "--timeout-ms", "3000"]
ENTRYPOINT ["quetra"]
CMD ["serve"]
