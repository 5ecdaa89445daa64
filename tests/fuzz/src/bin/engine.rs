//! The engine: libFuzzer around one target, which `PORTCULLIS_FUZZ_TARGET` names. `just fuzz` builds and starts it.
#![no_main]

use std::sync::LazyLock;

use fuzz::mutate::set_field;
use fuzz::{Target, find};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("PORTCULLIS_FUZZ_TARGET").unwrap_or_default();
    find(&name).unwrap_or_else(|| panic!("PORTCULLIS_FUZZ_TARGET={name} is no target"))
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));

// One change in four knows of the format's fields; the others are the engine's own.
fuzz_mutator!(|data: &mut [u8], size: usize, longest: usize, seed: u32| {
    let mut random = fastrand::Rng::with_seed(seed.into());
    if TARGET.fields.is_empty() || random.u8(0..4) > 0 {
        return fuzzer_mutate(data, size, longest);
    }
    set_field(&mut data[..size], TARGET.fields, &mut random);
    size
});
