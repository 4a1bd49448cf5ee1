#!/usr/bin/env bash
# dragonfly-client-config 1.5.10: in dfdaemon.yaml, `hostname: null` names the host "null", and `~` is the name "~".
#
# Seen: without a value, `hostname:`, the name is empty, and without the key it is that of the machine. `upload.server.ip: null`
# is as without the key. A section without a value, `metrics:`, has its defaults; with `~` it is an error. All of it is
# serde_yaml 0.9: an untagged plain scalar may be a String, whatever it looks like; an empty value may be a struct, a null not.
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
            "hostname {:?}, upload ip {}, metrics port {}",
            config.host.hostname,
            config.upload.server.ip.unwrap(),
            config.metrics.server.port
        ),
        Err(error) => println!("{error}"),
    }
}
RUST
cd "$work"
cargo build --quiet
grep -A 1 -E '^name = "(dragonfly-client-config|serde_yaml)"' Cargo.lock
# What becomes of a document, with the machine's own name as MACHINE.
own="$(uname -n)"
show() {
    printf '%b' "$1" >dfdaemon.yaml
    local seen
    seen="$(cargo run --quiet -- dfdaemon.yaml)"
    seen="${seen/hostname \"$own\"/hostname MACHINE}"
    echo "$1: $seen"
    case "$seen" in
    "$2"*) ;;
    *)
        echo "changed: expected $2"
        exit 1
        ;;
    esac
}
show '{}' 'hostname MACHINE, upload ip 0.0.0.0, metrics port 4002'
show 'host:\n  hostname: null\n' 'hostname "null", upload ip 0.0.0.0, metrics port 4002'
show 'host:\n  hostname: ~\n' 'hostname "~", upload ip 0.0.0.0, metrics port 4002'
show 'host:\n  hostname:\n' 'hostname "", upload ip 0.0.0.0, metrics port 4002'
show 'upload:\n  server:\n    ip: null\n' 'hostname MACHINE, upload ip 0.0.0.0, metrics port 4002'
show 'metrics:\n' 'hostname MACHINE, upload ip 0.0.0.0, metrics port 4002'
show 'metrics: ~\n' 'ConfigError cause: metrics: invalid type: unit value, expected struct Metrics'
