//! Runs each target on the inputs that are kept, and on changed copies of them.
//!
//! `PORTCULLIS_SEED` chooses other changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastrand::Rng;
use fuzz::corpus::inputs;
use fuzz::mutate::mutate;
use fuzz::targets::verify::{self, Tally};
use fuzz::{TARGETS, Target, find};

/// Changed copies of each input, and the most of a target.
const COPIES: usize = 8;
const MOST: usize = 600;
/// The seed that is always the same.
const FIXED: u64 = 0x636f_7270;

fn seed() -> u64 {
    let text = std::env::var("PORTCULLIS_SEED").unwrap_or_default();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).expect("a seed"),
        None if text.is_empty() => FIXED,
        None => text.parse().expect("a seed"),
    }
}

/// Runs a target; what fails is kept in a file, with the command that does it again.
fn run(target: &Target, bytes: &[u8], source: &Path) {
    // Nothing of a target outlives a run of it.
    if catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_ok() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("failed");
    std::fs::create_dir_all(&folder).expect("a folder for what failed");
    let file = folder.join(target.name);
    std::fs::write(&file, bytes).expect("a file for what failed");
    panic!(
        "{} fails on a copy of {}, seed {:#x}; again: cargo run -p fuzz --bin replay -- {} {}",
        target.name,
        source.display(),
        seed(),
        target.name,
        file.display()
    );
}

fn check(name: &str) {
    let target = find(name).expect("a target");
    let kept = inputs(name).expect("inputs");
    assert!(kept.len() > 2, "{} inputs of {name} are kept", kept.len());
    for (file, bytes) in &kept {
        run(&target, bytes, file);
    }
    let mut random = Rng::with_seed(seed());
    let copies = COPIES.min(MOST / kept.len()).max(1);
    for (file, bytes) in &kept {
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            let other = random.choice(&kept).map_or(&[][..], |(_, bytes)| bytes);
            mutate(&mut bytes, target.fields, other, target.longest, &mut random);
            run(&target, &bytes, file);
        }
    }
}

#[test]
fn elf() {
    check("elf");
}

#[test]
fn verify() {
    check("verify");
}

#[test]
fn manifest() {
    check("manifest");
}

#[test]
fn bundle() {
    check("bundle");
}

#[test]
fn proto() {
    check("proto");
}

#[test]
fn frames() {
    check("frames");
}

#[test]
fn info() {
    check("info");
}

#[test]
fn caps() {
    check("caps");
}

#[test]
fn sharing() {
    check("sharing");
}

#[test]
fn keys() {
    check("keys");
}

#[test]
fn toml() {
    check("toml");
}

#[test]
fn each_target_has_a_test() {
    let tested =
        ["elf", "verify", "manifest", "bundle", "proto", "frames", "info", "caps", "sharing", "keys", "toml"];
    assert_eq!(TARGETS.map(|target| target.name), tested);
}

/// The scan and the decoder agree on each kind of case, so none of them is missing from the inputs.
#[test]
fn the_scan_and_the_decoder_explain_each_other() {
    let mut tally = Tally::default();
    for (_, text) in inputs("verify").expect("inputs") {
        tally.add(verify::compare(&text));
    }
    println!("verify: {tally:?}");
    assert!(tally.refused > 20 && tally.agreed > 20 && tally.cut > 0 && tally.unknown > 0, "{tally:?}");
}

/// What the kernel loads passes both readers.
#[test]
fn an_image_that_is_good_is_taken() {
    let taken = inputs("elf").expect("inputs");
    let taken = taken.iter().filter(|(_, file)| libpks::elf::Image::parse(file).is_ok()).count();
    assert!(taken > 2, "{taken} images of the corpus are good");
}
