# Every target is a task of `cargo xtask`; this file only makes them easy to find and names what is missing before
# cargo can run at all.

.PHONY: help demo build test lint bench

help:
	@echo "make demo    build, start a server, and watch Python work on this machine's own figures"
	@echo "             (DEMO_SECONDS=30 make demo ends by itself)"
	@echo "make build   the release program, with its second name influxdb3"
	@echo "make test    every test"
	@echo "make lint    format and lints"
	@echo "make bench   the load generator; for its options: cargo xtask bench --help"

demo build test lint bench: | tools
	@cargo xtask $@

.PHONY: tools
tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install build-essential" >&2; exit 1; }
