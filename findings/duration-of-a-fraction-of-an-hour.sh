#!/usr/bin/env bash
# humantime 2.4.0 (the durations of dfdaemon.yaml): 0.01h is 36 s, and 0.001h is refused, as is 1.001h.
#
# Seen: 0.001m and 0.001s are good. The fraction of an hour or of a longer unit has to be a whole number of seconds, and that of
# a minute or a shorter unit a whole number of nanoseconds. 0.001h would be 3.6 s. The error speaks of values below 1 ns.
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
humantime = "=2.4.0"
TOML
cat >"$work/src/main.rs" <<'RUST'
fn main() {
    for (text, expected) in [
        ("0.01h", Some(36_000)),
        ("0.001h", None),
        ("1.001h", None),
        ("1.5d", Some(129_600_000)),
        ("0.001d", None),
        ("0.001m", Some(60)),
        ("0.001s", Some(1)),
    ] {
        let seen = humantime::parse_duration(text);
        println!("{text}: {}", seen.as_ref().map_or_else(|error| error.to_string(), |good| format!("{good:?}")));
        if seen.ok().map(|good| good.as_millis()) != expected {
            println!("changed: {text} is read otherwise");
            std::process::exit(1);
        }
    }
}
RUST
cd "$work"
cargo run --quiet
cargo tree | grep -oE 'humantime v[0-9.]+'
