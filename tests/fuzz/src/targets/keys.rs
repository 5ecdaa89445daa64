//! Histories of the key allocator against a set.

use std::collections::BTreeSet;

use libpks::pkey::{KeyAllocator, KeyError, Pkey};

/// Keys that can be handed out: all but the open one and the kernel's.
const POOL: usize = 14;

/// Runs the target. Each byte takes a key, or gives one back.
pub fn run(bytes: &[u8]) {
    let mut keys = KeyAllocator::new();
    let mut taken = BTreeSet::new();
    for &step in bytes {
        if step < 128 {
            match keys.allocate() {
                Ok(key) => {
                    assert!(key > Pkey::KERNEL, "{key:?} was handed out");
                    assert!(taken.insert(key.index()), "{key:?} was handed out twice");
                }
                Err(error) => {
                    assert!(
                        error == KeyError::Exhausted && taken.len() == POOL,
                        "{error:?} with {} taken",
                        taken.len()
                    )
                }
            }
        } else if let Some(key) = Pkey::new(step & 31) {
            let released = keys.release(key);
            assert_eq!(released.is_ok(), taken.remove(&key.index()), "{key:?}: {released:?}");
        }
        let listed: BTreeSet<u8> = keys.allocated().map(Pkey::index).collect();
        assert_eq!(listed.iter().filter(|key| **key > 1).copied().collect::<BTreeSet<_>>(), taken);
        assert_eq!(usize::from(keys.available()), POOL - taken.len());
    }
}
