#!/usr/bin/env bash
# url 2.5.8 (Rust) leaves `^` in a path, ada-url 4.0.0 (Python) writes %5E: two parsers of one standard give two URLs.
#
# Seen: both say that they follow WHATWG's URL standard, which has escaped `^` in a path since November 2024. In a query both
# leave it. A hash of the URL, such as a task ID of Dragonfly, differs.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ada-url==4.0.0
"$work/venv/bin/python" --version
ada="$("$work/venv/bin/python" -c 'import ada_url; print(ada_url.URL("https://example.com/a^b?c^d").href)')"
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "show"
version = "0.1.0"
edition = "2021"

[dependencies]
url = "=2.5.8"
TOML
cat >"$work/src/main.rs" <<'RUST'
fn main() {
    println!("{}", url::Url::parse("https://example.com/a^b?c^d").unwrap());
}
RUST
cd "$work"
rust="$(cargo run --quiet)"
cargo tree | grep -oE 'url v[0-9.]+' | head -1
echo "ada-url: $ada"
echo "url:     $rust"
[ "$ada" = "https://example.com/a%5Eb?c^d" ] || { echo "changed: ada-url writes it otherwise"; exit 1; }
[ "$rust" = "https://example.com/a^b?c^d" ] || { echo "changed: url writes it otherwise"; exit 1; }
