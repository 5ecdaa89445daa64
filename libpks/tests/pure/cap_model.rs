//! The capability table against a list of capabilities with parent pointers.

use std::collections::{BTreeSet, HashMap};

use libpks::cap::{
    CapError, CapRights, CapTable, Capability, Cause, Handle, Loan, Node, ObjectId, ObjectKind, Owner,
    Progress, Space,
};
use libpks::table::Slot;
use proptest::prelude::*;

const OWNERS: u32 = 4;

type Table = CapTable<Vec<Slot<Node>>, Vec<Space>>;
type Reported = Vec<(Owner, Handle, Capability, Cause)>;

/// A step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Root { owner: u32, rights: u16 },
    Mint { by: u32, of: usize, to: u32, rights: u16, badge: u64 },
    Move { by: u32, of: usize, to: u32 },
    Delete { by: u32, of: usize },
    Revoke { by: u32, of: usize, budget: u32 },
    Lend { by: u32, of: usize, to: u32, rights: u16 },
    EndLoan { loan: usize, budget: u32 },
    DeleteSpace { owner: u32, budget: u32 },
    Open { owner: u32, limit: u32 },
    SetLimit { owner: u32, limit: u32 },
}

/// Mostly all rights, so that long derivations occur.
fn rights() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(0xff_u16), 1 => any::<u8>().prop_map(u16::from)]
}

/// Any step.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let owner = 0..OWNERS;
    let budget = 1_u32..6;
    prop_oneof![
        2 => (owner.clone(), rights()).prop_map(|(owner, rights)| Op::Root { owner, rights }),
        // OWNERS itself has no space.
        12 => (0..=OWNERS, any::<usize>(), 0..=OWNERS, rights(), 0_u64..2)
            .prop_map(|(by, of, to, rights, badge)| Op::Mint { by, of, to, rights, badge }),
        3 => (owner.clone(), any::<usize>(), 0..=OWNERS).prop_map(|(by, of, to)| Op::Move { by, of, to }),
        3 => (owner.clone(), any::<usize>()).prop_map(|(by, of)| Op::Delete { by, of }),
        2 => (owner.clone(), any::<usize>(), budget.clone())
            .prop_map(|(by, of, budget)| Op::Revoke { by, of, budget }),
        4 => (owner.clone(), any::<usize>(), 0..=OWNERS, rights())
            .prop_map(|(by, of, to, rights)| Op::Lend { by, of, to, rights }),
        3 => (any::<usize>(), budget.clone()).prop_map(|(loan, budget)| Op::EndLoan { loan, budget }),
        1 => (0..=OWNERS, budget).prop_map(|(owner, budget)| Op::DeleteSpace { owner, budget }),
        2 => (0..OWNERS + 2, 3_u32..20).prop_map(|(owner, limit)| Op::Open { owner, limit }),
        1 => (0..=OWNERS, 3_u32..20).prop_map(|(owner, limit)| Op::SetLimit { owner, limit }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed,
    Open,
    Closing,
}

#[derive(Debug)]
struct Cap {
    handle: Handle,
    owner: u32,
    capability: Capability,
    parent: Option<usize>,
    lent: bool,
    live: bool,
    /// Its borrower has dropped it, and the loan has not ended.
    dropped: bool,
    /// A revoke of something above it was left off: its place in the tree may be gone already.
    torn: bool,
}

impl Cap {
    fn name(&self) -> (u32, Handle) {
        (self.owner, self.handle)
    }
}

/// The naive model. Capabilities are never taken out of the list, only marked.
#[derive(Default)]
struct Model {
    caps: Vec<Cap>,
    loans: Vec<(Loan, usize)>,
    spaces: HashMap<u32, (Option<u32>, bool)>,
    ever: Vec<Handle>,
}

impl Model {
    fn space(&self, owner: u32) -> State {
        match self.spaces.get(&owner) {
            Some((Some(_), false)) => State::Open,
            Some((Some(_), true)) => State::Closing,
            _ => State::Closed,
        }
    }

    fn count(&self, owner: u32) -> u32 {
        self.caps.iter().filter(|cap| cap.live && cap.owner == owner).count() as u32
    }

    fn held(&self, owner: u32, handle: Handle) -> Result<usize, CapError> {
        if self.space(owner) != State::Open {
            return Err(CapError::NoSuchSpace);
        }
        self.caps
            .iter()
            .position(|cap| cap.live && cap.owner == owner && cap.handle == handle)
            .ok_or(CapError::NoSuchCapability)
    }

    fn room(&self, owner: u32) -> Result<(), CapError> {
        match self.spaces.get(&owner) {
            Some((Some(limit), false)) if self.count(owner) >= *limit => Err(CapError::SpaceFull),
            Some((Some(_), false)) => Ok(()),
            _ => Err(CapError::NoSuchSpace),
        }
    }

    fn is_below(&self, at: usize, top: usize) -> bool {
        std::iter::successors(self.caps[at].parent, |up| self.caps[*up].parent).any(|up| up == top)
    }

    fn below(&self, top: usize) -> BTreeSet<usize> {
        (0..self.caps.len()).filter(|at| self.caps[*at].live && self.is_below(*at, top)).collect()
    }

    fn add(&mut self, handle: Handle, owner: u32, capability: Capability, parent: Option<usize>, lent: bool) {
        assert!(!self.ever.contains(&handle), "handle given twice");
        self.ever.push(handle);
        self.caps.push(Cap {
            handle,
            owner,
            capability,
            parent,
            lent,
            live: true,
            dropped: false,
            torn: false,
        });
    }

    /// What deriving gives, by the rules.
    fn derive(&self, of: usize, rights: CapRights, badge: u64) -> Result<Capability, CapError> {
        let source = self.caps[of].capability;
        if rights.bits() & !source.rights.bits() != 0 {
            return Err(CapError::RightsExceeded);
        }
        match (source.badge, badge) {
            (0, badge) => Ok(Capability { rights, badge, ..source }),
            (_, 0) => Ok(Capability { rights, ..source }),
            _ => Err(CapError::AlreadyBadged),
        }
    }

    fn mint(&self, op: (u32, Handle, u32, CapRights, u64)) -> Result<(usize, Capability), CapError> {
        let (by, handle, to, rights, badge) = op;
        let of = self.held(by, handle)?;
        if self.caps[of].lent {
            return Err(CapError::Lent);
        }
        if to != by && !self.caps[of].capability.rights.contains(CapRights::GRANT) {
            return Err(CapError::MissingRights);
        }
        let capability = self.derive(of, rights, badge)?;
        self.room(to)?;
        Ok((of, capability))
    }

    fn movable(&self, by: u32, handle: Handle, to: u32) -> Result<usize, CapError> {
        let of = self.held(by, handle)?;
        if to == by {
            return Ok(of);
        }
        if self.caps[of].lent {
            return Err(CapError::Lent);
        }
        if !self.caps[of].capability.rights.contains(CapRights::GRANT) {
            return Err(CapError::MissingRights);
        }
        self.room(to)?;
        Ok(of)
    }

    fn lend(
        &self,
        by: u32,
        handle: Handle,
        to: u32,
        rights: CapRights,
    ) -> Result<(usize, Capability), CapError> {
        let of = self.held(by, handle)?;
        if !self.caps[of].capability.rights.contains(CapRights::GRANT) {
            return Err(CapError::MissingRights);
        }
        let capability = self.derive(of, rights, 0)?;
        self.room(to)?;
        Ok((of, capability))
    }

    /// Marks what was reported as gone; everything must have been there and allowed to go.
    fn apply(&mut self, reported: &Reported, cause: Cause, allowed: &BTreeSet<usize>) {
        for (owner, handle, capability, reported_cause) in reported {
            let at = self
                .caps
                .iter()
                .position(|cap| cap.live && cap.handle == *handle && cap.owner == owner.0)
                .expect("reported what was there");
            assert_eq!((self.caps[at].capability, cause), (*capability, *reported_cause));
            assert!(allowed.contains(&at), "removed what should stay: {:?}", self.caps[at]);
            self.caps[at].live = false;
            self.caps[at].dropped =
                self.caps[at].lent && matches!(cause, Cause::Deleted | Cause::SpaceDeleted);
        }
    }

    /// Loans below one that were dropped and have not ended.
    fn dropped_below(&self, top: usize) -> usize {
        (0..self.caps.len()).filter(|at| self.caps[*at].dropped && self.is_below(*at, top)).count()
    }
}

fn check(table: &Table, model: &Model) {
    for handle in &model.ever {
        for owner in 0..OWNERS {
            let expected = model.held(owner, *handle);
            let found = table.lookup(Owner(owner), *handle);
            assert_eq!(found.copied(), expected.map(|at| model.caps[at].capability));
            assert_eq!(table.is_lent(Owner(owner), *handle), expected.map(|at| model.caps[at].lent));
            if let Ok(at) = expected {
                let derived = table.derived_count(Owner(owner), *handle, 1000).unwrap();
                assert_eq!((derived.count as usize, derived.complete), (model.below(at).len(), true));
            }
        }
    }
    for owner in 0..OWNERS {
        let listed: BTreeSet<u64> = table.owned(Owner(owner)).map(|(handle, _)| handle.raw()).collect();
        let expected: BTreeSet<u64> = model
            .caps
            .iter()
            .filter(|cap| cap.live && cap.owner == owner)
            .map(|cap| cap.handle.raw())
            .collect();
        assert_eq!(listed, expected);
        assert_eq!((table.count(Owner(owner)), table.owned(Owner(owner)).count() as u32), {
            let count = model.count(owner);
            (count, count)
        });
    }
    let live = model.caps.iter().filter(|cap| cap.live).count() as u32;
    let dead = table.nodes_in_use() - live;
    let dropped = model.caps.iter().filter(|cap| cap.dropped).count() as u32;
    // Those hold a place in a tree as the live ones do.
    assert!(
        dead <= dropped || dead - dropped < live + dropped,
        "{dead} dead nodes, {live} live, {dropped} dropped"
    );
}

fn run(table: &mut Table, model: &mut Model, op: &Op) {
    // Mostly what its holder has; else a handle that was given out at some time, or a made-up one.
    let live: Vec<&Cap> = model.caps.iter().filter(|cap| cap.live).collect();
    let pick = |by: u32, of: usize| match of % 20 {
        19 => (by, Handle::from_raw(of as u64)),
        _ if model.ever.is_empty() => (by, Handle::from_raw(0)),
        17 | 18 => (by, model.ever[(of / 20) % model.ever.len()]),
        _ if live.is_empty() => (by, model.ever[0]),
        _ => live[(of / 20) % live.len()].name(),
    };
    let mut reported = Reported::new();
    let mut report = |removal: libpks::cap::Removal<'_>| {
        reported.push((removal.owner, removal.handle, *removal.capability, removal.cause));
    };
    match *op {
        Op::Root { owner, rights } => {
            let object = ObjectId { kind: ObjectKind::Region, index: model.caps.len() as u32, generation: 1 };
            let capability = Capability { object, rights: CapRights::from_bits_truncate(rights), badge: 0 };
            let result = table.insert_root(Owner(owner), capability);
            assert_eq!(result.map(drop), model.room(owner));
            if let Ok(handle) = result {
                model.add(handle, owner, capability, None, false);
            }
        }
        Op::Mint { by, of, to, rights, badge } => {
            let ((by, handle), rights) = (pick(by, of), CapRights::from_bits_truncate(rights));
            let expected = model.mint((by, handle, to, rights, badge));
            let result = table.mint(Owner(by), handle, Owner(to), rights, badge);
            assert_eq!(result.map(drop), expected.map(drop));
            if let (Ok(new), Ok((of, capability))) = (result, expected) {
                model.add(new, to, capability, Some(of), false);
            }
        }
        Op::Move { by, of, to } => {
            let (by, handle) = pick(by, of);
            let expected = model.movable(by, handle, to);
            let result = table.move_to(Owner(by), handle, Owner(to), &mut report);
            assert_eq!(result.map(drop), expected.map(drop));
            if let (Ok(new), Ok(of)) = (result, expected) {
                if by == to {
                    assert_eq!((new, reported.len()), (handle, 0));
                } else {
                    let lost = (Owner(by), handle, model.caps[of].capability, Cause::Moved);
                    assert_eq!(reported, [lost]);
                    assert!(!model.ever.contains(&new), "handle given twice");
                    model.ever.push(new);
                    (model.caps[of].handle, model.caps[of].owner) = (new, to);
                }
            }
        }
        Op::Delete { by, of } => {
            let (by, handle) = pick(by, of);
            let expected = model.held(by, handle);
            assert_eq!(table.delete(Owner(by), handle, &mut report), expected.map(drop));
            assert_eq!(reported.len(), usize::from(expected.is_ok()));
            model.apply(&reported, Cause::Deleted, &expected.into_iter().collect());
        }
        Op::Revoke { by, of, budget } => {
            let (by, handle) = pick(by, of);
            let expected = model.held(by, handle);
            let result = table.revoke_step(Owner(by), handle, budget, &mut report);
            assert_eq!(result.map(drop), expected.map(drop));
            assert!(reported.len() <= budget as usize);
            if let Ok(of) = expected {
                let allowed = model.below(of);
                let steps = budget as usize >= 2 * (allowed.len() + model.dropped_below(of));
                model.apply(&reported, Cause::Revoked, &allowed);
                for at in (0..model.caps.len()).filter(|at| model.is_below(*at, of)).collect::<Vec<_>>() {
                    model.caps[at].dropped &= result != Ok(Progress::Done);
                    model.caps[at].torn = true;
                }
                // What is left may be no more than loans that were dropped.
                assert!(result != Ok(Progress::Done) || model.below(of).is_empty());
                assert!(!steps || result == Ok(Progress::Done), "two steps a capability suffice");
            }
        }
        Op::Lend { by, of, to, rights } => {
            let ((by, handle), rights) = (pick(by, of), CapRights::from_bits_truncate(rights));
            let expected = model.lend(by, handle, to, rights);
            let result = table.lend(Owner(by), handle, Owner(to), rights);
            assert_eq!(result.map(drop), expected.map(drop));
            if let (Ok((lent, loan)), Ok((of, capability))) = (result, expected) {
                model.loans.push((loan, model.caps.len()));
                model.add(lent, to, capability, Some(of), true);
            }
        }
        Op::EndLoan { loan, budget } if !model.loans.is_empty() => {
            let (loan, at) = model.loans[loan % model.loans.len()];
            let result = table.end_loan_step(loan, budget, &mut report);
            let mut allowed = BTreeSet::new();
            if model.caps[at].live || model.caps[at].dropped {
                allowed = model.below(at);
                allowed.insert(at);
            }
            model.apply(&reported, Cause::LoanEnded, &allowed);
            if result == Progress::Done {
                let all_gone = !model.caps[at].live && model.below(at).is_empty();
                assert!(allowed.is_empty() || all_gone || (model.caps[at].torn && reported.is_empty()));
                for gone in 0..model.caps.len() {
                    model.caps[gone].dropped &= gone != at && !model.is_below(gone, at);
                }
            } else {
                assert!(model.caps[at].live || model.caps[at].dropped);
            }
        }
        Op::EndLoan { .. } => {}
        Op::DeleteSpace { owner, budget } => {
            let result = table.delete_space_step(Owner(owner), budget, &mut report);
            if model.space(owner) == State::Closed {
                assert_eq!(result, Err(CapError::NoSuchSpace));
            } else {
                let expected = (model.count(owner) as usize).min(budget as usize);
                assert_eq!(reported.len(), expected);
                let allowed = (0..model.caps.len()).filter(|at| model.caps[*at].owner == owner).collect();
                model.apply(&reported, Cause::SpaceDeleted, &allowed);
                let done = model.count(owner) == 0;
                assert_eq!(result == Ok(Progress::Done), done);
                let limit = model.spaces[&owner].0.filter(|_| !done);
                model.spaces.insert(owner, (limit, true));
            }
        }
        Op::Open { owner, limit } => {
            let expected = match model.space(owner) {
                _ if owner > OWNERS => Err(CapError::NoSuchSpace),
                _ if owner == OWNERS => return,
                State::Closed => Ok(()),
                _ => Err(CapError::SpaceInUse),
            };
            assert_eq!(table.open_space(Owner(owner), limit), expected);
            if expected.is_ok() {
                model.spaces.insert(owner, (Some(limit), false));
            }
        }
        Op::SetLimit { owner, limit } => {
            let open = model.space(owner) == State::Open;
            let expected = if open { Ok(()) } else { Err(CapError::NoSuchSpace) };
            assert_eq!(table.set_limit(Owner(owner), limit), expected);
            if open {
                model.spaces.insert(owner, (Some(limit), false));
            }
        }
    }
}

/// Carries out a history on the table and on the model, and compares them after each step.
pub(crate) fn agree(ops: &[Op]) {
    let mut table = Table::new(Vec::new(), Vec::new());
    let mut model = Model::default();
    for owner in 0..OWNERS {
        run(&mut table, &mut model, &Op::Open { owner, limit: 60 });
    }
    for op in ops {
        run(&mut table, &mut model, op);
        check(&table, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 500 }, ..ProptestConfig::default() })]
    #[test]
    fn capability_table_agrees_with_the_model(ops in prop::collection::vec(op(), 0..if cfg!(miri) { 40 } else { 120 })) {
        agree(&ops);
    }
}
