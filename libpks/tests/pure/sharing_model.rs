//! Sharing classes against a list of regions with their holders.

use std::collections::{BTreeMap, BTreeSet};

use libpks::cap::Owner;
use libpks::pkey::{KeyAllocator, KeyError, Pkey, Rights};
use libpks::sharing::{Class, Holder, Member, Sharing, SharingError};
use libpks::table::Slot;
use proptest::prelude::*;

use crate::small_table::SmallTable;

type Classes = Sharing<SmallTable<Slot<Class>>, SmallTable<Slot<Holder>>>;
type Holders = BTreeMap<u32, Rights>;

/// A step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Join {
        domain: u32,
        rights: Rights,
        pin: bool,
    },
    SetHolder {
        region: usize,
        domain: u32,
        rights: Option<Rights>,
    },
    /// Two domains at one time.
    SetHolders {
        region: usize,
        edits: [(u32, Rights); 2],
    },
    Map {
        region: usize,
    },
    Unmap {
        region: usize,
    },
    Leave {
        region: usize,
    },
    /// The flush is over: keys that were freed go back to the pool.
    Flush,
}

/// Any step.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let rights = prop_oneof![
        1 => Just(Rights::NoAccess), 3 => Just(Rights::ReadOnly), 3 => Just(Rights::ReadWrite)
    ];
    let region = any::<usize>();
    prop_oneof![
        4 => (0_u32..4, rights.clone(), prop::bool::weighted(0.15))
            .prop_map(|(domain, rights, pin)| Op::Join { domain, rights, pin }),
        8 => (region, 0_u32..4, prop::option::weighted(0.7, rights.clone()))
            .prop_map(|(region, domain, rights)| Op::SetHolder { region, domain, rights }),
        4 => (region, 0_u32..4, 1_u32..4, rights.clone(), rights.clone()).prop_map(
            |(region, domain, other, rights, others)| {
                Op::SetHolders { region, edits: [(domain, rights), ((domain + other) % 4, others)] }
            }
        ),
        6 => region.prop_map(|region| Op::Map { region }),
        2 => region.prop_map(|region| Op::Unmap { region }),
        2 => region.prop_map(|region| Op::Leave { region }),
        1 => Just(Op::Flush),
    ]
}

struct Region {
    member: Member,
    holders: Holders,
    pin: Option<Pkey>,
    key: Option<Pkey>,
}

struct World {
    classes: Classes,
    keys: KeyAllocator,
    regions: Vec<Region>,
    /// Freed, but not flushed yet.
    freed: Vec<Pkey>,
    /// Taken by others before we began, and for pins.
    taken: u8,
    may_run_out: bool,
}

impl World {
    /// The key under which regions with `holders` are mapped.
    fn key_of(&self, holders: &Holders) -> Option<Pkey> {
        self.regions.iter().filter(|r| r.pin.is_none() && r.holders == *holders).find_map(|r| r.key)
    }

    /// Whether `error` may be: only if tables are limited.
    fn is_full(&self, error: SharingError) -> bool {
        self.may_run_out && error == SharingError::OutOfMemory
    }

    fn pool_error(&self) -> SharingError {
        assert_eq!(self.keys.available(), 0);
        SharingError::Key(KeyError::Exhausted)
    }

    fn join(&mut self, domain: u32, rights: Rights, pin: bool) {
        let holders: Holders = [(domain, rights)].into_iter().filter(|h| h.1 != Rights::NoAccess).collect();
        let pin = if pin { self.keys.allocate().ok() } else { None };
        let joined = match pin {
            Some(key) => self.classes.join_pinned(Owner(domain), rights, key),
            None => self.classes.join(Owner(domain), rights),
        };
        self.taken += u8::from(pin.is_some());
        match joined {
            Ok(member) => self.regions.push(Region { member, holders, pin, key: None }),
            Err(error) => assert!(self.is_full(error)),
        }
    }

    fn map(&mut self, at: usize) {
        let available = self.keys.available();
        let shared = match self.regions[at].pin {
            None => self.key_of(&self.regions[at].holders.clone()),
            pin => pin,
        };
        let result = self.classes.map(&mut self.regions[at].member, &mut self.keys);
        match (self.regions[at].key, shared) {
            (Some(_), _) => assert_eq!(result, Err(SharingError::WrongState)),
            (None, Some(key)) => assert_eq!(result, Ok(key)),
            (None, None) if available == 0 => assert_eq!(result, Err(self.pool_error())),
            (None, None) => assert_eq!(self.keys.available(), available - 1),
        }
        if let Ok(key) = result {
            self.regions[at].key = Some(key);
        }
    }

    /// What has to be freed when a region with this pin is no longer under `key`.
    fn expected_freed(&self, pin: Option<Pkey>, key: Option<Pkey>) -> Option<Pkey> {
        key.filter(|key| pin.is_none() && self.regions.iter().all(|region| region.key != Some(*key)))
    }

    fn unmap(&mut self, at: usize) {
        let result = self.classes.unmap(&mut self.regions[at].member);
        let Some(key) = self.regions[at].key.take() else {
            assert_eq!(result, Err(SharingError::WrongState));
            return;
        };
        let freed = self.expected_freed(self.regions[at].pin, Some(key));
        assert_eq!(result, Ok(freed));
        self.freed.extend(freed);
    }

    fn leave(&mut self, at: usize) {
        let region = self.regions.swap_remove(at);
        let freed = self.classes.leave(region.member);
        assert_eq!(freed, self.expected_freed(region.pin, region.key));
        self.freed.extend(freed);
    }

    fn set_holders(&mut self, at: usize, edits: &[(u32, Rights)]) {
        let mut holders = self.regions[at].holders.clone();
        for &(domain, rights) in edits {
            match rights {
                Rights::NoAccess => holders.remove(&domain),
                rights => holders.insert(domain, rights),
            };
        }
        let unchanged = holders == self.regions[at].holders;
        let (pin, old_key) = (self.regions[at].pin, self.regions[at].key);
        let available = self.keys.available();
        let shared = self.key_of(&holders);
        let from = self.regions[at].member.class();
        let owners: Vec<_> = edits.iter().map(|&(domain, rights)| (Owner(domain), rights)).collect();
        let result = self.classes.set_holders(&mut self.regions[at].member, &owners, &mut self.keys);
        let alone = self.regions.iter().filter(|region| region.key == old_key).count() == 1;
        let needs_key = !unchanged && pin.is_none() && old_key.is_some() && shared.is_none() && !alone;
        let change = match result {
            Ok(change) => change,
            Err(SharingError::Key(_)) => {
                assert!(needs_key && available == 0);
                assert_eq!(result, Err(self.pool_error()));
                return;
            }
            Err(error) => {
                assert!(self.is_full(error) && !unchanged);
                return;
            }
        };
        assert!(!needs_key || available > 0);
        assert_eq!(available - self.keys.available(), u8::from(needs_key));
        let to = self.regions[at].member.class();
        assert_eq!((change.from, change.to, change.old_key), (from, to, old_key));
        self.regions[at].holders = holders;
        self.regions[at].key = change.new_key;
        assert_eq!(change.new_key.is_some(), old_key.is_some());
        assert_eq!(change.freed, self.expected_freed(pin, old_key));
        self.freed.extend(change.freed);
    }

    fn run(&mut self, op: &Op) {
        let count = self.regions.len().max(1);
        match *op {
            Op::Join { domain, rights, pin } => self.join(domain, rights, pin),
            Op::Flush => {
                for key in self.freed.drain(..) {
                    assert_eq!(self.keys.release(key), Ok(()));
                }
            }
            _ if self.regions.is_empty() => {}
            Op::SetHolder { region, domain, rights } => {
                self.set_holders(region % count, &[(domain, rights.unwrap_or(Rights::NoAccess))]);
            }
            Op::SetHolders { region, edits } => self.set_holders(region % count, &edits),
            Op::Map { region } => self.map(region % count),
            Op::Unmap { region } => self.unmap(region % count),
            Op::Leave { region } => self.leave(region % count),
        }
    }

    fn check(&self) {
        for (at, one) in self.regions.iter().enumerate() {
            let class = one.member.class();
            assert_eq!(one.member.is_mapped(), one.key.is_some());
            let listed: Vec<_> =
                self.classes.holders(class).map(|(owner, rights)| (owner.0, rights)).collect();
            assert_eq!(listed, one.holders.clone().into_iter().collect::<Vec<_>>());
            if let Some(key) = one.key {
                assert_eq!(self.classes.key(class), Some(key));
                assert_eq!(self.classes.class_with_key(key), Some(class));
                assert!(self.keys.is_allocated(key) && !self.freed.contains(&key));
            }
            for other in &self.regions[..at] {
                let same = one.pin == other.pin && one.holders == other.holders;
                assert_eq!(class == other.member.class(), same);
                if one.key.is_some() && other.key.is_some() {
                    assert_eq!(one.key == other.key, same, "share a key iff same holders");
                }
            }
        }
        let used: BTreeSet<_> =
            self.regions.iter().filter(|r| r.pin.is_none()).filter_map(|r| r.key).collect();
        let allocated = self.keys.allocated().count();
        assert_eq!(allocated, used.len() + self.freed.len() + usize::from(self.taken), "no key leaks");
        let classes: BTreeMap<_, _> =
            self.regions.iter().map(|region| (region.member.class(), region.holders.len())).collect();
        let expected = (classes.len() as u32, classes.values().sum::<usize>() as u32);
        assert_eq!(self.classes.in_use(), expected, "no entry leaks");
    }
}

/// Carries out a history on the classes and on the model, and compares them after each step. `taken` keys are in use by
/// others; `limits` are the entries of the tables for classes and for holders.
pub(crate) fn agree(ops: &[Op], taken: u8, limits: Option<(usize, usize)>) {
    let mut keys = KeyAllocator::new(true);
    for _ in 0..taken {
        keys.allocate().unwrap();
    }
    let (class_limit, holder_limit) = limits.unwrap_or((10_000, 10_000));
    let classes = Sharing::new(SmallTable::new(class_limit), SmallTable::new(holder_limit));
    let may_run_out = limits.is_some();
    let mut world = World { classes, keys, regions: Vec::new(), freed: Vec::new(), taken, may_run_out };
    for op in ops {
        world.run(op);
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 500 }, ..ProptestConfig::default() })]
    #[test]
    fn classes_agree_with_the_model(
        ops in prop::collection::vec(op(), 0..if cfg!(miri) { 40 } else { 150 }),
        taken in 0_u8..13,
        limits in prop::option::of((0_usize..20, 0_usize..30)),
    ) {
        agree(&ops, taken, limits);
    }
}
