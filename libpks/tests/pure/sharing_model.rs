//! Sharing classes of two views against a list of regions with their holders in one of them.

use std::collections::{BTreeMap, BTreeSet};

use libpks::cap::Owner;
use libpks::pkey::{KeyError, Pkey, Rights};
use libpks::sharing::{Class, Holder, Member, Sharing, SharingError, Spread, ViewKeys};
use libpks::table::Slot;
use proptest::prelude::*;

use crate::small_table::SmallTable;

type Classes = Sharing<SmallTable<Slot<Class>>, SmallTable<Slot<Holder>>>;
type Holders = BTreeMap<u32, Rights>;

/// Views with one set of books.
const VIEWS: usize = 2;

/// A step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Join {
        view: usize,
        domain: u32,
        rights: Rights,
        spread: Spread,
        pin: bool,
    },
    SetHolder {
        region: usize,
        domain: u32,
        rights: Option<Rights>,
    },
    /// Two domains at one time, and whether there are others in other views.
    SetHolders {
        region: usize,
        edits: [(u32, Rights); 2],
        spread: Spread,
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
    let spread = || prop_oneof![3 => Just(Spread::OneView), 1 => Just(Spread::ManyViews)];
    prop_oneof![
        4 => (0_usize..VIEWS, 0_u32..4, rights.clone(), spread(), prop::bool::weighted(0.15)).prop_map(
            |(view, domain, rights, spread, pin)| Op::Join { view, domain, rights, spread, pin }
        ),
        8 => (region, 0_u32..4, prop::option::weighted(0.7, rights.clone()))
            .prop_map(|(region, domain, rights)| Op::SetHolder { region, domain, rights }),
        4 => (region, 0_u32..4, 1_u32..4, rights.clone(), rights.clone(), spread()).prop_map(
            |(region, domain, other, rights, others, spread)| {
                let edits = [(domain, rights), ((domain + other) % 4, others)];
                Op::SetHolders { region, edits, spread }
            }
        ),
        6 => region.prop_map(|region| Op::Map { region }),
        2 => region.prop_map(|region| Op::Unmap { region }),
        2 => region.prop_map(|region| Op::Leave { region }),
        1 => Just(Op::Flush),
    ]
}

struct Region {
    view: usize,
    member: Member,
    holders: Holders,
    /// As the class has it: of no account where it is pinned.
    spread: Spread,
    pin: Option<Pkey>,
    key: Option<Pkey>,
}

struct World {
    classes: Classes,
    views: [ViewKeys; VIEWS],
    regions: Vec<Region>,
    /// Freed, but not flushed yet, by view.
    freed: Vec<(usize, Pkey)>,
    /// Taken by others before we began, and for pins, by view.
    taken: [u8; VIEWS],
    may_run_out: bool,
}

impl World {
    /// The key under which regions with `holders` are mapped in a view.
    fn key_of(&self, view: usize, holders: &Holders, spread: Spread) -> Option<Pkey> {
        let alike =
            |r: &&Region| r.view == view && r.pin.is_none() && r.holders == *holders && r.spread == spread;
        self.regions.iter().filter(alike).find_map(|r| r.key)
    }

    /// Whether `error` may be: only if tables are limited.
    fn is_full(&self, error: SharingError) -> bool {
        self.may_run_out && error == SharingError::OutOfMemory
    }

    fn pool_error(&self, view: usize) -> SharingError {
        assert_eq!(self.views[view].available(), 0);
        SharingError::Key(KeyError::Exhausted)
    }

    fn join(&mut self, view: usize, domain: u32, rights: Rights, spread: Spread, pin: bool) {
        let holders: Holders = [(domain, rights)].into_iter().filter(|h| h.1 != Rights::NoAccess).collect();
        let keys = &mut self.views[view];
        let pin = if pin { keys.allocate().ok() } else { None };
        let joined = match pin {
            Some(key) => self.classes.join_pinned(keys, Owner(domain), rights, key),
            None => self.classes.join(keys, Owner(domain), rights, spread),
        };
        self.taken[view] += u8::from(pin.is_some());
        match joined {
            Ok(member) => self.regions.push(Region { view, member, holders, spread, pin, key: None }),
            Err(error) => assert!(self.is_full(error)),
        }
    }

    fn map(&mut self, at: usize) {
        let view = self.regions[at].view;
        let available = self.views[view].available();
        let shared = match self.regions[at].pin {
            None => self.key_of(view, &self.regions[at].holders, self.regions[at].spread),
            pin => pin,
        };
        let result = self.classes.map(&mut self.regions[at].member, &mut self.views[view]);
        match (self.regions[at].key, shared) {
            (Some(_), _) => assert_eq!(result, Err(SharingError::WrongState)),
            (None, Some(key)) => assert_eq!(result, Ok(key)),
            (None, None) if available == 0 => assert_eq!(result, Err(self.pool_error(view))),
            (None, None) => assert_eq!(self.views[view].available(), available - 1),
        }
        if let Ok(key) = result {
            self.regions[at].key = Some(key);
        }
    }

    /// What has to be freed when a region with this pin is no longer under `key` in a view.
    fn expected_freed(&self, view: usize, pin: Option<Pkey>, key: Option<Pkey>) -> Option<Pkey> {
        let has = |region: &Region, key| region.view == view && region.key == Some(key);
        key.filter(|&key| pin.is_none() && !self.regions.iter().any(|region| has(region, key)))
    }

    fn note_freed(&mut self, view: usize, freed: Option<Pkey>) {
        self.freed.extend(freed.map(|key| (view, key)));
    }

    fn unmap(&mut self, at: usize) {
        let view = self.regions[at].view;
        let result = self.classes.unmap(&mut self.regions[at].member, &mut self.views[view]);
        let Some(key) = self.regions[at].key.take() else {
            assert_eq!(result, Err(SharingError::WrongState));
            return;
        };
        let freed = self.expected_freed(view, self.regions[at].pin, Some(key));
        assert_eq!(result, Ok(freed));
        self.note_freed(view, freed);
    }

    fn leave(&mut self, at: usize) {
        let region = self.regions.swap_remove(at);
        let freed = self.classes.leave(region.member, &mut self.views[region.view]);
        assert_eq!(freed, self.expected_freed(region.view, region.pin, region.key));
        self.note_freed(region.view, freed);
    }

    fn set_holders(&mut self, at: usize, edits: &[(u32, Rights)], spread: Spread) {
        let mut holders = self.regions[at].holders.clone();
        for &(domain, rights) in edits {
            match rights {
                Rights::NoAccess => holders.remove(&domain),
                rights => holders.insert(domain, rights),
            };
        }
        let Region { view, pin, key: old_key, spread: before, .. } = self.regions[at];
        let spread = if pin.is_some() { before } else { spread };
        let unchanged = holders == self.regions[at].holders && spread == before;
        let available = self.views[view].available();
        let shared = self.key_of(view, &holders, spread);
        let from = self.regions[at].member.class();
        let owners: Vec<_> = edits.iter().map(|&(domain, rights)| (Owner(domain), rights)).collect();
        let result =
            self.classes.set_holders(&mut self.regions[at].member, &owners, spread, &mut self.views[view]);
        let under = |region: &&Region| region.view == view && region.key == old_key;
        let alone = self.regions.iter().filter(under).count() == 1;
        let needs_key = !unchanged && pin.is_none() && old_key.is_some() && shared.is_none() && !alone;
        let change = match result {
            Ok(change) => change,
            Err(SharingError::Key(_)) => {
                assert!(needs_key && available == 0);
                assert_eq!(result, Err(self.pool_error(view)));
                return;
            }
            Err(error) => {
                assert!(self.is_full(error) && !unchanged);
                return;
            }
        };
        assert!(!needs_key || available > 0);
        assert_eq!(available - self.views[view].available(), u8::from(needs_key));
        let to = self.regions[at].member.class();
        assert_eq!((change.from, change.to, change.old_key), (from, to, old_key));
        (self.regions[at].holders, self.regions[at].spread) = (holders, spread);
        self.regions[at].key = change.new_key;
        assert_eq!(change.new_key.is_some(), old_key.is_some());
        assert_eq!(change.freed, self.expected_freed(view, pin, old_key));
        self.note_freed(view, change.freed);
    }

    fn run(&mut self, op: &Op) {
        let count = self.regions.len().max(1);
        match *op {
            Op::Join { view, domain, rights, spread, pin } => self.join(view, domain, rights, spread, pin),
            Op::Flush => {
                for (view, key) in self.freed.drain(..) {
                    assert_eq!(self.views[view].release(key), Ok(()));
                }
            }
            _ if self.regions.is_empty() => {}
            Op::SetHolder { region, domain, rights } => {
                let edits = [(domain, rights.unwrap_or(Rights::NoAccess))];
                self.set_holders(region % count, &edits, self.regions[region % count].spread);
            }
            Op::SetHolders { region, edits, spread } => self.set_holders(region % count, &edits, spread),
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
                let view = &self.views[one.view];
                assert_eq!(self.classes.class_with_key(view, key), Some(class));
                assert!(view.is_allocated(key) && !self.freed.contains(&(one.view, key)));
            }
            for other in &self.regions[..at] {
                let beside = one.view == other.view;
                let same = beside
                    && one.pin == other.pin
                    && one.holders == other.holders
                    && (one.pin.is_some() || one.spread == other.spread);
                assert_eq!(class == other.member.class(), same);
                if beside && one.key.is_some() && other.key.is_some() {
                    assert_eq!(one.key == other.key, same, "share a key iff same holders");
                }
            }
        }
        for (view, keys) in self.views.iter().enumerate() {
            let own = self.regions.iter().filter(|r| r.view == view && r.pin.is_none());
            let used: BTreeSet<_> = own.filter_map(|r| r.key).collect();
            let freed = self.freed.iter().filter(|freed| freed.0 == view).count();
            let expected = used.len() + freed + usize::from(self.taken[view]);
            assert_eq!(keys.allocated().count(), expected, "no key leaks");
        }
        let classes: BTreeMap<_, _> =
            self.regions.iter().map(|region| (region.member.class(), region.holders.len())).collect();
        let expected = (classes.len() as u32, classes.values().sum::<usize>() as u32);
        assert_eq!(self.classes.in_use(), expected, "no entry leaks");
    }
}

/// Carries out a history on the classes and on the model, and compares them after each step. `taken` keys of each view
/// are in use by others; `limits` are the entries of the tables for classes and for holders.
pub(crate) fn agree(ops: &[Op], taken: u8, limits: Option<(usize, usize)>) {
    let views = [0, 1].map(|number| {
        let mut keys = ViewKeys::new(number);
        for _ in 0..taken {
            keys.allocate().unwrap();
        }
        keys
    });
    let (class_limit, holder_limit) = limits.unwrap_or((10_000, 10_000));
    let classes = Sharing::new(SmallTable::new(class_limit), SmallTable::new(holder_limit));
    let may_run_out = limits.is_some();
    let mut world =
        World { classes, views, regions: Vec::new(), freed: Vec::new(), taken: [taken; VIEWS], may_run_out };
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
