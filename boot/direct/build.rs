//! Links the loader with its own script when it is built for the bare machine.

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rerun-if-changed=src/entry.s");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-T{folder}/link.ld");
        // The 32-bit code holds absolute addresses, which a position-independent file cannot.
        println!("cargo::rustc-link-arg-bins=--no-pie");
    }
}
