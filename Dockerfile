# Builds the server from source, then leaves everything but the binary behind.
FROM rust:1.95.0-bookworm AS build
# The image's own toolchain; rust-toolchain.toml would fetch what only tests and editors need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/understudy /understudy

FROM debian:bookworm-slim
RUN useradd --system --uid 999 --home-dir /data understudy && install -d -o understudy -g understudy /data
COPY --from=build /understudy /usr/local/bin/understudy
USER understudy
WORKDIR /data
VOLUME /data
EXPOSE 6379
# A container that is stopped gets SIGTERM, on which the server writes what it must and ends.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=3s --start-period=30s --retries=5 \
    CMD ["understudy", "--health-check", "--port", "6379"]
ENTRYPOINT ["understudy"]
CMD ["--bind", "*", "--protected-mode", "no", "--appendonly", "yes", "--dir", "/data"]
