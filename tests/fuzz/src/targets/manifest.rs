//! Encoded manifests: `init` reads all of one, the kernel its head. Where both take it they must read the same.

use libpks::manifest::{INIT, Manifest, Tier};
use libpks::manifest_head::{Head, Reader};

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let head = Reader::new(bytes).and_then(|reader| reader.head());
    let digest = |bytes: &[u8]| Reader::new(bytes).and_then(|reader| reader.digest(INIT));
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    let first = manifest.servers.first().expect("a manifest begins with a server");
    assert_eq!(first.name, INIT);
    let expected = Head {
        own_view: first.tier == Tier::OwnView,
        priority: first.priority,
        memory_bytes: first.memory,
        stack_bytes: first.stack,
        budget: first.budget,
        overrun_ns: first.overrun_ns,
        restart: first.restart,
    };
    assert_eq!(head, Some(expected), "the kernel reads something else than init");
    assert_eq!(manifest.server(INIT), Some(first));
    let again = manifest.encode(&[]).expect("what was decoded has an encoding");
    assert_eq!(Manifest::decode(&again).as_ref(), Ok(&manifest), "another manifest came back");
    assert_eq!(Reader::new(&again).and_then(|reader| reader.head()), Some(expected));
    assert_eq!(digest(&again), None, "a digest from nowhere");
    // Whatever the digests are, looking for one ends.
    let _ = digest(bytes);
}
