#!/usr/bin/env bash
# humantime 2.4.0 (the durations of dfdaemon.yaml): "1 0 s" is ten seconds, and "1 .5 s" is one and a half.
#
# Seen: spaces between the digits of a number are skipped, tabs and line ends too; those within a unit are not, so that
# "1 m s" is an error. "1 30m", in which the unit of the hour was forgotten, is 130 minutes.
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
        ("10 s", Some(10_000)),
        ("1 0 s", Some(10_000)),
        ("1\t0\ns", Some(10_000)),
        ("1 .5 s", Some(1_500)),
        ("1h 30m", Some(5_400_000)),
        ("1 30m", Some(7_800_000)),
        ("1 m s", None),
    ] {
        let seen = humantime::parse_duration(text);
        println!("{text:?}: {}", seen.as_ref().map_or_else(|error| error.to_string(), |good| format!("{good:?}")));
        if seen.ok().map(|good| good.as_millis()) != expected {
            println!("changed: {text:?} is read otherwise");
            std::process::exit(1);
        }
    }
}
RUST
cd "$work"
cargo run --quiet
cargo tree | grep -oE 'humantime v[0-9.]+'
