# The commands of the project. `./just` sets a fresh machine up first.

# Words from the command line reach recipes as arguments; no shell parses them again.
set positional-arguments

image := "cargo run --quiet --package image --"

# List the recipes
[private]
default:
    @{{ just_executable() }} --list --unsorted

# Build kernel, servers and direct loader, and put the boot files together
build:
    @{{ image }} build

# Write an ISO for CD and USB stick, BIOS and UEFI (needs Limine: LIMINE_DIR)
iso *ARGS:
    @{{ image }} iso "$@"

# Boot in QEMU, console on the terminal: loader= cpus= mem= paging= cpu= cmd= (`just run --help`)
run *ARGS:
    @{{ image }} run "$@"

# Boot a system with an adversary, whose shell shows all attacks and what stops each; words as for `run`
demo *ARGS:
    @{{ image }} run --manifest boot/demo.toml "cmd=attack all; poweroff" "$@"

# Run the host's tests, then the system in QEMU; FILTER selects by name
test *FILTER:
    #!/usr/bin/env bash
    set -euo pipefail
    # Words before `--` are cargo's, those behind it the test runner's.
    before=() after=()
    for word; do [[ $word != -- ]] || break; before+=("$word"); done
    (($# == ${#before[@]})) || after=("${@:${#before[@]}+2}")
    host=(--workspace --exclude kernel --exclude tests --lib --test '*')
    # `system` comes last, because its closing lines stand for the whole.
    harness=(--package tests --lib)
    for file in tests/tests/*.rs tests/tests/*/main.rs; do
        name=$(basename "${file%/main.rs}" .rs)
        [[ ! -e $file || $name == system ]] || harness+=(--test "$name")
    done
    system=(--package tests --test system)
    if (($#)) && [[ " ${after[*]} " != *" --list "* ]]; then
        found=
        for part in host harness system; do
            declare -n words=$part
            list=$(cargo test --quiet "${words[@]}" "${before[@]}" -- --list "${after[@]}")
            [[ ! $list =~ ': test'($'\n'|$) ]] || found=yes
        done
        [[ $found ]] || { echo "just test: no test is called that: $*" >&2; exit 1; }
    fi
    for part in host harness system; do
        declare -n words=$part
        cargo test "${words[@]}" "${before[@]}" -- "${after[@]}"
    done

# Run the tests on all configurations, and those that take long; everything but `mutants` and `soak`
test-all:
    @PORTCULLIS_FULL=1 {{ just_executable() }} test
    @{{ just_executable() }} exhaustive
    @{{ just_executable() }} loom
    @{{ just_executable() }} miri

# Break a copy of the tree with each mutant of tests/mutants, and demand that its tests see it; FILTER selects by name
mutants *FILTER:
    @cargo run --quiet --package tests --bin mutants -- "$@"

# Count instructions, writes of PKRS and more of each operation, in a table and in target/bench.json: accept=REASON trace=ROW
bench *ARGS:
    @cargo run --quiet --package tests --bin bench -- "$@"

# Check format and lints, for the host and for the machine itself
check:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy --target x86_64-unknown-none --package kernel -- -D warnings
    cargo clippy --target x86_64-unknown-none --package direct -- -D warnings
    cargo clippy --target x86_64-unknown-none --workspace --exclude kernel --exclude direct --exclude image --exclude tests --exclude counter --exclude fuzz -- -D warnings

# Write what is made from tables anew: docs/scenarios.md, docs/attacks.md, docs/mutants.md, the costs in README.md
docs:
    @UPDATE_DOCS=1 cargo test --quiet --package image --test scenarios --test attacks
    @UPDATE_DOCS=1 cargo test --quiet --package tests --lib the_page_has

# Debug with gdb, symbols of kernel and servers loaded; words as for `run`, gdb's own after `--`
gdb *ARGS:
    @{{ image }} gdb "$@"

# Boot as `run` does, with QEMU's log of interrupts and resets in target/boot/qemu.log
debug *ARGS:
    @{{ image }} run --log "$@"

# Say which tools are here and what is missing
doctor:
    @{{ image }} doctor

# Remove everything that was built
clean:
    cargo clean

# Check every rights word, page-table entry and short history of keys, in release mode (minutes)
exhaustive *FILTER:
    @cargo test --release --package libpks --test exhaustive -- --ignored --nocapture --test-threads=1 "$@"

# Model-check the lock-free protocols: every interleaving and memory order of two or three CPUs
loom *FILTER:
    @RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}" \
        cargo test --release --package libpks --test loom --target-dir "${CARGO_TARGET_DIR:-target}/loom" -- "$@"

# Run the pure code's tests under Miri; says SKIP, with the reason, where its toolchain cannot be had
miri *FILTER:
    @{{ image }} miri "$@"

# Random steps against the reference model, for as long as said: minutes=60 cpus=4 seed= (docs/testing-in-depth.md)
soak *ARGS:
    @cargo run --quiet --package tests --bin soak -- "$@"

# Fuzz what reads bytes of others, then the kernel's entries: `just fuzz 60` a minute each, `just fuzz 5 elf guest` those; `just fuzz keep` renews tests/fuzz/corpus
fuzz *ARGS:
    @cargo run --quiet --package tests --bin fuzz -- "$@"
