//! Taking capabilities back: revoke, loans, emptying a space.

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
fn borrower_that_dies_does_not_end_what_it_lent_on() {
    let (mut table, root) = table();
    let (lent, outer) = table.lend(A, root, B, ALL).unwrap();
    let (lent_on, inner) = table.lend(B, lent, C, CapRights::READ).unwrap();
    assert_eq!(table.delete_space_step(B, 9, ignore), Ok(Progress::Done));
    assert_eq!(table.end_loan_step(outer, 9, |_| panic!("gone already")), Progress::Done);
    assert!(table.lookup(C, lent_on).is_ok(), "until the reply of its own call");
    assert_eq!(table.end_loan_step(inner, 9, ignore), Progress::Done);
    assert_eq!(table.lookup(C, lent_on), Err(CapError::NoSuchCapability));
}

#[test]
fn loan_that_the_borrower_dropped_is_over_though_its_node_is_still_there() {
    let (mut table, root) = table();
    let (lent, outer) = table.lend(A, root, B, ALL).unwrap();
    let inner = [(); 2].map(|()| table.lend(B, lent, C, CapRights::READ).unwrap());
    table.delete(B, lent, ignore).unwrap();
    assert_eq!(table.nodes_in_use(), 4, "the dead one holds two together");
    assert_eq!(table.end_loan_step(outer, 9, |_| panic!("gone already")), Progress::Done);
    assert!(inner.iter().all(|(lent_on, _)| table.lookup(C, *lent_on).is_ok()));
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
