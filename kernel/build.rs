//! Hands the kernel's linker script to the linker, only where the kernel itself is linked.

/// Names the order in which functions are linked; 0 or none for the usual one.
const SEED: &str = "PORTCULLIS_LINK_SEED";

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{dir}/kernel.ld");
        // The target's default is a position-independent executable; the kernel has one fixed address.
        println!("cargo:rustc-link-arg-bins=--no-pie");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
        // The image builder tries other orders of the functions until no privileged instruction comes about by accident
        // in a displacement. The entry code's own sections stay where the script puts them.
        println!("cargo:rerun-if-env-changed={SEED}");
        if let Some(seed) = std::env::var(SEED).ok().filter(|seed| seed != "0") {
            println!("cargo:rustc-link-arg-bins=--shuffle-sections=.text.*={seed}");
        }
    }
}
