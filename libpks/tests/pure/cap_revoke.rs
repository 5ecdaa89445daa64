//! Taking capabilities back: revoke, loans, emptying a space.

use std::cell::Cell;
use std::rc::Rc;

use libpks::cap::{
    CapError, CapRights, CapTable, Capability, Cause, Handle, Node, ObjectId, ObjectKind, Owner, Progress,
    Removal, Space,
};
use libpks::table::Slot;

type Table = CapTable<Vec<Slot<Node>>, Vec<Space>>;

const A: Owner = Owner(0);
const B: Owner = Owner(1);
const C: Owner = Owner(2);
const ALL: CapRights = CapRights::all();

fn table() -> (Table, Handle) {
    let mut table = Table::new(Vec::new(), Vec::new());
    for owner in [A, B, C] {
        table.open_space(owner, u32::MAX).unwrap();
    }
    let object = ObjectId { kind: ObjectKind::Region, index: 0, generation: 1 };
    let root = table.insert_root(A, Capability { object, rights: ALL, badge: 0 }).unwrap();
    (table, root)
}

fn ignore(_: Removal<'_>) {}

/// Runs `step` to its end; gives the number of calls.
fn finish(mut step: impl FnMut() -> Progress) -> u32 {
    let mut calls = 1;
    while step() == Progress::More {
        calls += 1;
        assert!(calls < 1_000_000, "does not end");
    }
    calls
}

#[test]
fn revoke_takes_all_that_was_derived_and_nothing_else() {
    let (mut table, root) = table();
    let victim = table.mint(A, root, B, ALL, 0).unwrap();
    let sibling = table.mint(A, root, B, ALL, 0).unwrap();
    let child = table.mint(B, victim, C, ALL, 0).unwrap();
    let grandchild = table.mint(C, child, A, ALL, 0).unwrap();
    let mut lost = Vec::new();
    let report = |removal: Removal<'_>| lost.push((removal.owner, removal.handle, removal.cause));
    assert_eq!(table.revoke_step(B, victim, 99, report), Ok(Progress::Done));
    lost.sort_by_key(|lost| lost.0);
    assert_eq!(lost, [(A, grandchild, Cause::Revoked), (C, child, Cause::Revoked)]);
    assert_eq!(table.lookup(C, child), Err(CapError::NoSuchCapability));
    assert_eq!(table.lookup(A, grandchild), Err(CapError::NoSuchCapability));
    assert!([victim, sibling].iter().all(|kept| table.lookup(B, *kept).is_ok()));
}

#[test]
fn deep_chain_is_revoked_in_bounded_steps() {
    let (mut table, root) = table();
    let depth = if cfg!(miri) { 50 } else { 20_000 };
    let mut last = root;
    for _ in 0..depth {
        last = table.mint(A, last, A, ALL, 0).unwrap();
    }
    let calls = finish(|| {
        let mut lost = 0;
        let progress = table.revoke_step(A, root, 8, |_| lost += 1).unwrap();
        assert!(lost <= 8);
        progress
    });
    assert!(calls <= depth / 4 + 2, "{calls} calls");
    assert_eq!((table.count(A), table.nodes_in_use()), (1, 1));
}

#[test]
fn wide_tree_of_trees_is_revoked_in_bounded_steps() {
    let (mut table, root) = table();
    let width = if cfg!(miri) { 5 } else { 100 };
    for _ in 0..width {
        let child = table.mint(A, root, B, ALL, 0).unwrap();
        for _ in 0..width {
            table.mint(B, child, C, ALL, 0).unwrap();
        }
    }
    let calls = finish(|| table.revoke_step(A, root, 8, ignore).unwrap());
    assert!(calls <= width * (width + 1) / 4 + 2, "{calls} calls");
    assert_eq!((table.count(B), table.count(C), table.nodes_in_use()), (0, 0, 1));
}

/// Derives two from each of the last, `levels` times.
fn grow(table: &mut Table, root: Handle, levels: u32) -> u32 {
    let mut level = vec![root];
    for _ in 0..levels {
        level = level
            .iter()
            .flat_map(|parent| [*parent; 2])
            .map(|parent| table.mint(A, parent, A, ALL, 0).unwrap())
            .collect();
    }
    (2 << levels) - 2
}

#[test]
fn bushy_tree_is_revoked_in_bounded_steps_and_reported_once() {
    let (mut table, root) = table();
    let derived = grow(&mut table, root, 6);
    let mut lost = Vec::new();
    let calls = finish(|| table.revoke_step(A, root, 4, |removal| lost.push(removal.handle)).unwrap());
    assert!(calls <= derived / 2 + 1, "{calls} calls");
    assert_eq!(lost.len(), derived as usize);
    lost.sort();
    lost.dedup();
    assert_eq!(lost.len(), derived as usize, "reported twice");
    assert_eq!((table.count(A), table.nodes_in_use()), (1, 1));
}

#[test]
fn revoke_that_was_left_off_can_be_taken_up_and_leaves_a_sound_tree() {
    let (mut table, root) = table();
    let child = table.mint(A, root, B, ALL, 0).unwrap();
    let others: Vec<Handle> = (0..4).map(|_| table.mint(B, child, C, ALL, 0).unwrap()).collect();
    let below = table.mint(C, others[1], A, ALL, 0).unwrap();
    assert_eq!(table.revoke_step(A, root, 2, ignore), Ok(Progress::More));
    assert_eq!(table.lookup(B, child), Err(CapError::NoSuchCapability), "the first step took it");
    // Whoever is left can still revoke what came of it, and can still mint.
    assert_eq!(table.revoke_step(C, others[1], 9, ignore), Ok(Progress::Done));
    assert_eq!(table.lookup(A, below), Err(CapError::NoSuchCapability));
    table.mint(C, others[2], B, ALL, 0).unwrap();
    finish(|| table.revoke_step(A, root, 1, ignore).unwrap());
    assert_eq!((table.count(A), table.count(B), table.count(C), table.nodes_in_use()), (1, 0, 0, 1));
}

#[test]
fn revoke_without_budget_does_nothing_but_tells_whether_it_is_done() {
    let (mut table, root) = table();
    assert_eq!(table.revoke_step(A, root, 0, ignore), Ok(Progress::Done));
    let child = table.mint(A, root, B, ALL, 0).unwrap();
    assert_eq!(table.revoke_step(A, root, 0, ignore), Ok(Progress::More));
    assert!(table.lookup(B, child).is_ok());
}

#[test]
fn loan_ends_with_everything_lent_on() {
    let (mut table, root) = table();
    let (lent, loan) = table.lend(A, root, B, ALL).unwrap();
    let (lent_on, inner) = table.lend(B, lent, C, CapRights::READ).unwrap();
    assert_eq!(table.is_lent(B, lent), Ok(true));
    assert_eq!(table.lookup(C, lent_on).unwrap().rights, CapRights::READ);
    let mut causes = Vec::new();
    finish(|| table.end_loan_step(loan, 1, |removal| causes.push(removal.cause)));
    assert_eq!(causes, [Cause::LoanEnded; 2]);
    assert_eq!((table.count(B), table.count(C)), (0, 0));
    assert!(table.lookup(A, root).is_ok());
    assert_eq!(table.end_loan_step(inner, 1, |_| panic!("gone already")), Progress::Done);
}

#[test]
fn borrowed_capability_cannot_be_kept() {
    let (mut table, root) = table();
    let (lent, _) = table.lend(A, root, B, ALL).unwrap();
    assert_eq!(table.mint(B, lent, B, CapRights::READ, 0), Err(CapError::Lent));
    assert_eq!(table.mint(B, lent, C, CapRights::READ, 0), Err(CapError::Lent));
    assert_eq!(table.move_to(B, lent, C, ignore), Err(CapError::Lent));
}

#[test]
fn ending_a_loan_that_is_over_harms_nobody() {
    let (mut table, root) = table();
    let (lent, loan) = table.lend(A, root, B, ALL).unwrap();
    table.delete(B, lent, ignore).unwrap();
    let reused = table.mint(A, root, B, ALL, 0).unwrap();
    assert_eq!(reused.raw() as u32, lent.raw() as u32, "same slot");
    assert_eq!(table.end_loan_step(loan, 9, |_| panic!("not the loan's")), Progress::Done);
    assert!(table.lookup(B, reused).is_ok());
}

#[test]
fn revoke_takes_loans_too() {
    let (mut table, root) = table();
    let (lent, loan) = table.lend(A, root, B, ALL).unwrap();
    assert_eq!(table.revoke_step(A, root, 9, ignore), Ok(Progress::Done));
    assert_eq!(table.lookup(B, lent), Err(CapError::NoSuchCapability));
    assert_eq!(table.end_loan_step(loan, 9, |_| panic!("gone already")), Progress::Done);
}

#[test]
fn what_a_borrower_lent_on_ends_with_its_loan_though_it_died() {
    let (mut table, root) = table();
    let (lent, outer) = table.lend(A, root, B, ALL).unwrap();
    let (lent_on, inner) = table.lend(B, lent, C, CapRights::READ).unwrap();
    assert_eq!(table.delete_space_step(B, 9, ignore), Ok(Progress::Done));
    assert!(table.lookup(C, lent_on).is_ok(), "the loan has not ended");
    let mut lost = Vec::new();
    finish(|| table.end_loan_step(outer, 1, |removal| lost.push((removal.owner, removal.cause))));
    assert_eq!(lost, [(C, Cause::LoanEnded)]);
    assert_eq!(table.lookup(C, lent_on), Err(CapError::NoSuchCapability));
    assert_eq!(table.end_loan_step(inner, 9, |_| panic!("gone already")), Progress::Done);
    assert_eq!(table.nodes_in_use(), 1);
}

#[test]
fn what_a_borrower_lent_on_ends_with_its_loan_though_it_dropped_its_own() {
    for lent_on in 1..4 {
        let (mut table, root) = table();
        let (lent, outer) = table.lend(A, root, B, ALL).unwrap();
        let inner: Vec<_> = (0..lent_on).map(|_| table.lend(B, lent, C, CapRights::READ).unwrap()).collect();
        let mut lost = Vec::new();
        table.delete(B, lent, |removal| lost.push((removal.owner, removal.cause))).unwrap();
        assert_eq!((table.lookup(B, lent), table.count(B)), (Err(CapError::NoSuchCapability), 0));
        assert_eq!(table.delete(B, lent, ignore), Err(CapError::NoSuchCapability));
        finish(|| table.end_loan_step(outer, 1, |removal| lost.push((removal.owner, removal.cause))));
        let expected = [(B, Cause::Deleted)].into_iter().chain((0..lent_on).map(|_| (C, Cause::LoanEnded)));
        assert_eq!(lost, expected.collect::<Vec<_>>());
        for (_, loan) in inner {
            assert_eq!(table.end_loan_step(loan, 9, |_| panic!("gone already")), Progress::Done);
        }
        assert_eq!((table.count(C), table.nodes_in_use()), (0, 1));
    }
}

#[test]
fn loan_that_was_dropped_with_nothing_lent_on_leaves_nothing() {
    let (mut table, root) = table();
    let (lent, outer) = table.lend(A, root, B, ALL).unwrap();
    let (_, inner) = table.lend(B, lent, C, ALL).unwrap();
    finish(|| table.end_loan_step(inner, 9, ignore));
    table.delete(B, lent, ignore).unwrap();
    assert_eq!(table.nodes_in_use(), 1);
    assert_eq!(table.end_loan_step(outer, 9, |_| panic!("gone already")), Progress::Done);
}

#[test]
fn revoke_takes_loans_that_were_dropped_and_what_hangs_below_them() {
    let (mut table, root) = table();
    let mut source = (A, root);
    let mut loans = Vec::new();
    // Lent on from hand to hand, and dropped by everybody but the last.
    for to in [B, C, A, B, C] {
        let (lent, loan) = table.lend(source.0, source.1, to, ALL).unwrap();
        loans.push((source.0, source.1, loan));
        source = (to, lent);
    }
    for &(owner, handle, _) in &loans[1..] {
        table.delete(owner, handle, ignore).unwrap();
    }
    assert_eq!((table.count(A), table.count(B), table.count(C)), (1, 0, 1));
    let mut lost = Vec::new();
    finish(|| table.revoke_step(A, root, 1, |removal| lost.push(removal.owner)).unwrap());
    assert_eq!((lost, table.nodes_in_use()), (vec![C], 1));
    for (_, _, loan) in loans {
        assert_eq!(table.end_loan_step(loan, 9, |_| panic!("gone already")), Progress::Done);
    }
}

/// A table that counts how often it is looked at.
struct Counted<T>(Vec<T>, Rc<Cell<u64>>);

impl<T> libpks::table::Table<T> for Counted<T> {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn get(&self, index: u32) -> Option<&T> {
        self.1.set(self.1.get() + 1);
        self.0.as_slice().get(index as usize)
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.1.set(self.1.get() + 1);
        self.0.as_mut_slice().get_mut(index as usize)
    }

    fn push(&mut self, value: T) -> Result<u32, libpks::table::OutOfMemory> {
        self.0.push(value);
        Ok(self.0.len() as u32 - 1)
    }
}

/// Looks at the table that it takes to empty a space as the kernel does: in steps, asking of each object that was lost
/// what its holder still has of it.
fn looks_to_empty(capabilities: u32) -> u64 {
    let looks = Rc::new(Cell::new(0));
    let nodes = Counted(Vec::new(), Rc::clone(&looks));
    let mut table = CapTable::<_, Vec<Space>>::new(nodes, Vec::new());
    table.open_space(A, u32::MAX).unwrap();
    for index in 0..capabilities {
        let object = ObjectId { kind: ObjectKind::Region, index: index / 2, generation: 1 };
        table.insert_root(A, Capability { object, rights: ALL, badge: 0 }).unwrap();
    }
    looks.set(0);
    loop {
        let mut lost = Vec::new();
        let progress = table.delete_space_step(A, 32, |removal| lost.push(removal.capability.object));
        for object in lost {
            assert_eq!(table.rights_to(A, object), CapRights::empty());
        }
        if progress == Ok(Progress::Done) {
            return looks.get();
        }
    }
}

#[test]
fn emptying_a_space_takes_looks_in_proportion_to_what_is_in_it() {
    let looks = [100, 1000].map(looks_to_empty);
    assert!(looks[1] <= looks[0] * 11, "{looks:?} looks for 100 and 1000 capabilities");
    assert!(looks[0] <= 100 * 16, "{looks:?}");
}

#[test]
fn emptying_a_space_shuts_it_at_once_and_spares_others() {
    let (mut table, root) = table();
    let given = table.mint(A, root, B, ALL, 0).unwrap();
    let passed_on = table.mint(B, given, C, ALL, 0).unwrap();
    table.mint(A, root, B, ALL, 0).unwrap();
    let mut lost = Vec::new();
    let progress = table.delete_space_step(B, 1, |removal| lost.push((removal.owner, removal.cause)));
    assert_eq!((progress, lost), (Ok(Progress::More), vec![(B, Cause::SpaceDeleted)]));
    assert_eq!(table.lookup(B, given), Err(CapError::NoSuchSpace), "shut while it is emptied");
    assert_eq!(table.mint(A, root, B, ALL, 0), Err(CapError::NoSuchSpace));
    assert_eq!(table.open_space(B, 9), Err(CapError::SpaceInUse));
    assert_eq!(table.delete_space_step(B, 1, ignore), Ok(Progress::Done));
    assert_eq!(table.delete_space_step(B, 1, ignore), Err(CapError::NoSuchSpace));
    assert!(table.lookup(C, passed_on).is_ok());
    assert_eq!(table.derived_count(A, root, 9).unwrap().count, 1);
    assert_eq!(table.open_space(B, 9), Ok(()));
    assert_eq!(table.count(B), 0);
}

#[test]
fn counting_stops_at_its_budget() {
    let (mut table, root) = table();
    for _ in 0..5 {
        table.mint(A, root, B, ALL, 0).unwrap();
    }
    let derived = table.derived_count(A, root, 3).unwrap();
    assert_eq!((derived.count, derived.complete), (3, false));
    let derived = table.derived_count(A, root, 5).unwrap();
    assert_eq!((derived.count, derived.complete), (5, true));
}
