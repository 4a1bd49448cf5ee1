#!/usr/bin/env bash
# dragonfly-client-config 1.5.10: a size of `0x10B` is 267 bytes and `0x1E` is 30, for B and E are digits there.
#
# Seen: `0x10 B` and `0x10K` are refused. `010` and `010B` are 10 bytes as a size, and `010` is an error as a count
# (concurrentPieceCount), where `0x10` is 16. serde_yaml 0.9 reads 0x10B as an integer before bytesize can see a unit, and reads
# digits with a zero in front as a string, which bytesize takes for decimal and an integer field does not accept.
# The script needs cargo; the first build takes minutes (CARGO_TARGET_DIR keeps it for the next).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "show"
version = "0.1.0"
edition = "2021"

[dependencies]
dragonfly-client-config = "=1.5.10"
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
use dragonfly_client_config::dfdaemon::Config;

#[tokio::main]
async fn main() {
    let path = std::env::args().nth(1).unwrap();
    match Config::load(&path.into()).await {
        Ok(config) => println!(
            "size {}, count {}",
            config.download.bandwidth_limit.as_u64(),
            config.download.concurrent_piece_count
        ),
        Err(error) => println!("{error}"),
    }
}
RUST
cd "$work"
cargo build --quiet
grep -A 1 -E '^name = "(dragonfly-client-config|serde_yaml)"' Cargo.lock
# What becomes of one key of the section `download`.
show() {
    printf 'download:\n  %s\n' "$1" >dfdaemon.yaml
    local seen
    seen="$(cargo run --quiet -- dfdaemon.yaml)"
    echo "$1: $seen"
    case "$seen" in
    $2) ;;
    *)
        echo "changed: expected $2"
        exit 1
        ;;
    esac
}
show 'bandwidthLimit: 16B' 'size 16, *'
show 'bandwidthLimit: 0x10B' 'size 267, *'
show 'bandwidthLimit: 0x1E' 'size 30, *'
show 'bandwidthLimit: 0x10 B' 'ConfigError *expected parsable string*'
show 'bandwidthLimit: 0x10K' 'ConfigError *expected parsable string*'
show 'bandwidthLimit: 010' 'size 10, *'
show 'bandwidthLimit: 010B' 'size 10, *'
show 'concurrentPieceCount: 0x10' 'size *, count 16'
show 'concurrentPieceCount: 010' 'ConfigError *invalid type: string "010", expected u32*'
