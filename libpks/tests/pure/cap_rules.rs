//! The rules of the capability table, one by one.

use libpks::cap::{
    CapError, CapRights, CapTable, Capability, Cause, Handle, Node, ObjectId, ObjectKind, Owner, Progress,
    Removal, Space,
};
use libpks::pkey::Rights;
use libpks::table::Slot;

use crate::small_table::SmallTable;

type Table = CapTable<Vec<Slot<Node>>, Vec<Space>>;

const A: Owner = Owner(0);
const B: Owner = Owner(1);
const C: Owner = Owner(2);

fn region(rights: CapRights) -> Capability {
    let object = ObjectId { kind: ObjectKind::Region, index: 3, generation: 9 };
    Capability { object, rights, badge: 0 }
}

/// Spaces A, B and C, and A's root capability with all rights.
fn table() -> (Table, Handle) {
    let mut table = Table::new(Vec::new(), Vec::new());
    for owner in [A, B, C] {
        table.open_space(owner, 100).unwrap();
    }
    let root = table.insert_root(A, region(CapRights::all())).unwrap();
    (table, root)
}

fn ignore(_: Removal<'_>) {}

#[test]
fn forged_handles_name_nothing() {
    let (mut table, root) = table();
    let raw = root.raw();
    for forged in [0, raw ^ 1, raw ^ 1 << 32, raw | 0xffff_ffff, u64::MAX, raw + (1 << 32)] {
        let forged = Handle::from_raw(forged);
        assert_eq!(table.lookup(A, forged), Err(CapError::NoSuchCapability));
        assert_eq!(table.delete(A, forged, ignore), Err(CapError::NoSuchCapability));
        assert_eq!(table.mint(A, forged, A, CapRights::empty(), 0), Err(CapError::NoSuchCapability));
    }
    assert_eq!(Handle::from_raw(raw), root);
}

#[test]
fn handle_of_another_domain_names_nothing() {
    let (mut table, root) = table();
    assert_eq!(table.lookup(B, root), Err(CapError::NoSuchCapability));
    assert_eq!(table.mint(B, root, B, CapRights::READ, 0), Err(CapError::NoSuchCapability));
    assert_eq!(table.delete(B, root, ignore), Err(CapError::NoSuchCapability));
    assert_eq!(table.revoke_step(B, root, 9, ignore), Err(CapError::NoSuchCapability));
    assert!(table.lookup(A, root).is_ok());
}

#[test]
fn handle_is_stale_after_delete_even_if_the_slot_is_used_again() {
    let (mut table, root) = table();
    table.delete(A, root, ignore).unwrap();
    let again = table.insert_root(A, region(CapRights::READ)).unwrap();
    assert_eq!(again.raw() as u32, root.raw() as u32, "same slot");
    assert_eq!(table.lookup(A, root), Err(CapError::NoSuchCapability));
}

#[test]
fn require_checks_kind_and_rights() {
    let (mut table, root) = table();
    let weak = table.mint(A, root, A, CapRights::READ | CapRights::CALL, 0).unwrap();
    let require = |kind, rights| table.require(A, weak, kind, rights).map(|found| found.rights);
    assert_eq!(require(ObjectKind::Region, CapRights::READ), Ok(CapRights::READ | CapRights::CALL));
    assert_eq!(require(ObjectKind::Endpoint, CapRights::READ), Err(CapError::WrongKind));
    assert_eq!(require(ObjectKind::Region, CapRights::WRITE), Err(CapError::MissingRights));
    assert_eq!(require(ObjectKind::Region, CapRights::READ | CapRights::WRITE), Err(CapError::MissingRights));
}

#[test]
fn rights_only_shrink() {
    let (mut table, root) = table();
    let weak = table.mint(A, root, A, CapRights::READ | CapRights::GRANT, 0).unwrap();
    for bit in CapRights::all().iter().filter(|bit| !(CapRights::READ | CapRights::GRANT).contains(*bit)) {
        assert_eq!(table.mint(A, weak, A, bit, 0), Err(CapError::RightsExceeded));
        assert!(matches!(table.lend(A, weak, B, bit), Err(CapError::RightsExceeded)));
    }
    let none = table.mint(A, weak, A, CapRights::empty(), 0).unwrap();
    assert_eq!(table.mint(A, none, A, CapRights::READ, 0), Err(CapError::RightsExceeded));
    assert_eq!(table.lookup(A, none).unwrap().object, table.lookup(A, root).unwrap().object);
}

#[test]
fn badge_is_set_once_and_inherited() {
    let (mut table, root) = table();
    let all = CapRights::all();
    let badged = table.mint(A, root, A, all, 77).unwrap();
    assert_eq!(table.mint(A, badged, A, all, 78), Err(CapError::AlreadyBadged));
    assert_eq!(table.mint(A, badged, A, all, 77), Err(CapError::AlreadyBadged));
    let copy = table.mint(A, badged, B, all, 0).unwrap();
    assert_eq!(table.lookup(B, copy).unwrap().badge, 77);
    assert_eq!(table.mint(B, copy, B, all, 1), Err(CapError::AlreadyBadged));
    let (lent, _) = table.lend(B, copy, C, all).unwrap();
    assert_eq!(table.lookup(C, lent).unwrap().badge, 77);
}

#[test]
fn giving_away_needs_grant_but_copying_at_home_does_not() {
    let (mut table, root) = table();
    let mine = table.mint(A, root, A, CapRights::READ, 0).unwrap();
    assert_eq!(table.mint(A, mine, B, CapRights::READ, 0), Err(CapError::MissingRights));
    assert_eq!(table.move_to(A, mine, B, ignore), Err(CapError::MissingRights));
    assert!(matches!(table.lend(A, mine, B, CapRights::READ), Err(CapError::MissingRights)));
    assert!(table.mint(A, mine, A, CapRights::READ, 0).is_ok());
    assert_eq!(table.count(B), 0);
}

#[test]
fn move_keeps_the_place_in_the_tree_and_reports_the_loss() {
    let (mut table, root) = table();
    let middle = table.mint(A, root, A, CapRights::all(), 0).unwrap();
    let leaf = table.mint(A, middle, C, CapRights::READ, 0).unwrap();
    let mut lost = Vec::new();
    let moved =
        table.move_to(A, middle, B, |removal| lost.push((removal.owner, removal.handle, removal.cause)));
    let moved = moved.unwrap();
    assert_eq!(lost, [(A, middle, Cause::Moved)]);
    assert_eq!(table.lookup(A, middle), Err(CapError::NoSuchCapability));
    assert_eq!(table.lookup(B, middle), Err(CapError::NoSuchCapability), "the old name is dead for all");
    assert!(table.lookup(B, moved).is_ok());
    assert_eq!(table.derived_count(B, moved, 9).unwrap().count, 1);
    assert_eq!(table.revoke_step(A, root, 9, ignore), Ok(Progress::Done));
    assert_eq!(table.lookup(B, moved), Err(CapError::NoSuchCapability));
    assert_eq!(table.lookup(C, leaf), Err(CapError::NoSuchCapability));
}

#[test]
fn delete_leaves_what_was_derived_below_the_parent() {
    let (mut table, root) = table();
    let middle = table.mint(A, root, B, CapRights::all(), 0).unwrap();
    let leaves: Vec<Handle> = (0..3).map(|_| table.mint(B, middle, C, CapRights::READ, 0).unwrap()).collect();
    table.delete(B, middle, ignore).unwrap();
    assert!(leaves.iter().all(|leaf| table.lookup(C, *leaf).is_ok()));
    assert_eq!(table.derived_count(A, root, 99).unwrap().count, 3);
    assert_eq!(table.revoke_step(A, root, 99, ignore), Ok(Progress::Done));
    assert_eq!((table.count(C), table.nodes_in_use()), (0, 1));
}

#[test]
fn dead_nodes_go_with_the_last_but_one_of_their_children() {
    let (mut table, root) = table();
    let middle = table.mint(A, root, B, CapRights::all(), 0).unwrap();
    let one = table.mint(B, middle, C, CapRights::READ, 0).unwrap();
    table.mint(B, middle, C, CapRights::READ, 0).unwrap();
    table.delete(B, middle, ignore).unwrap();
    assert_eq!(table.nodes_in_use(), 4, "the dead one holds two together");
    table.delete(C, one, ignore).unwrap();
    assert_eq!(table.nodes_in_use(), 2);
    assert_eq!(table.derived_count(A, root, 9).unwrap().count, 1);
}

#[test]
fn siblings_stay_linked_around_a_capability_that_was_replaced_by_its_child() {
    let (mut table, root) = table();
    let rest: Vec<Handle> = (0..3).map(|_| table.mint(A, root, B, CapRights::READ, 0).unwrap()).collect();
    let middle = table.mint(A, root, B, CapRights::all(), 0).unwrap();
    table.mint(B, middle, C, CapRights::READ, 0).unwrap();
    table.delete(B, middle, ignore).unwrap();
    // The child now stands before the last of `rest`.
    table.delete(B, rest[2], ignore).unwrap();
    assert_eq!(table.derived_count(A, root, 99).unwrap().count, 3);
}

#[test]
fn full_space_refuses_and_changes_nothing() {
    let (mut table, root) = table();
    table.set_limit(B, 1).unwrap();
    let given = table.mint(A, root, B, CapRights::all(), 0).unwrap();
    assert_eq!(table.mint(A, root, B, CapRights::READ, 0), Err(CapError::SpaceFull));
    assert_eq!(table.move_to(A, root, B, ignore), Err(CapError::SpaceFull));
    assert!(matches!(table.lend(A, root, B, CapRights::READ), Err(CapError::SpaceFull)));
    assert_eq!(table.insert_root(B, region(CapRights::READ)), Err(CapError::SpaceFull));
    assert!(table.lookup(A, root).is_ok());
    table.delete(B, given, ignore).unwrap();
    assert!(table.move_to(A, root, B, ignore).is_ok());
}

#[test]
fn table_that_cannot_grow_is_an_error() {
    let mut table: CapTable<_, Vec<Space>> = CapTable::new(SmallTable::<Slot<Node>>::new(2), Vec::new());
    table.open_space(A, 100).unwrap();
    let root = table.insert_root(A, region(CapRights::all())).unwrap();
    let copy = table.mint(A, root, A, CapRights::READ, 0).unwrap();
    assert_eq!(table.mint(A, root, A, CapRights::READ, 0), Err(CapError::OutOfMemory));
    assert_eq!((table.count(A), table.derived_count(A, root, 9).unwrap().count), (2, 1));
    table.delete(A, copy, ignore).unwrap();
    assert!(table.mint(A, root, A, CapRights::READ, 0).is_ok());
}

#[test]
fn spaces_are_dense_and_opened_once() {
    let mut table = Table::new(Vec::new(), Vec::new());
    assert_eq!(table.open_space(Owner(1), 9), Err(CapError::NoSuchSpace));
    assert_eq!(table.open_space(Owner(0), 9), Ok(()));
    assert_eq!(table.open_space(Owner(0), 9), Err(CapError::SpaceInUse));
    assert_eq!(table.insert_root(Owner(1), region(CapRights::READ)), Err(CapError::NoSuchSpace));
    assert_eq!(table.lookup(Owner(7), Handle::from_raw(1 << 32)), Err(CapError::NoSuchSpace));
}

#[test]
fn rights_to_an_object_are_those_of_all_capabilities_together() {
    let (mut table, root) = table();
    let object = table.lookup(A, root).unwrap().object;
    table.mint(A, root, B, CapRights::READ, 0).unwrap();
    table.mint(A, root, B, CapRights::WRITE, 0).unwrap();
    let other = Capability { object: ObjectId { generation: 10, ..object }, ..region(CapRights::MANAGE) };
    table.insert_root(B, other).unwrap();
    assert_eq!(table.rights_to(B, object), CapRights::READ | CapRights::WRITE);
    assert_eq!(table.rights_to(C, object), CapRights::empty());
}

#[test]
fn write_without_read_gives_no_access_to_memory() {
    assert_eq!(CapRights::WRITE.access(), Rights::NoAccess);
    assert_eq!((CapRights::READ | CapRights::GRANT).access(), Rights::ReadOnly);
    assert_eq!((CapRights::READ | CapRights::WRITE).access(), Rights::ReadWrite);
    assert_eq!((CapRights::all() - CapRights::READ).access(), Rights::NoAccess);
}

#[test]
fn object_kinds_survive_their_codes() {
    for kind in ObjectKind::ALL {
        assert_eq!(ObjectKind::from_code(kind.code()), Some(*kind));
    }
    assert_eq!(ObjectKind::ALL.len(), 15);
    assert_eq!((ObjectKind::from_code(0), ObjectKind::from_code(16)), (None, None));
}

#[test]
fn what_a_domain_holds_is_listed_newest_first() {
    let (mut table, root) = table();
    let one = table.mint(A, root, A, CapRights::READ, 0).unwrap();
    let two = table.mint(A, root, A, CapRights::WRITE, 0).unwrap();
    let listed: Vec<Handle> = table.owned(A).map(|(handle, _)| handle).collect();
    assert_eq!(listed, [two, one, root]);
    assert_eq!(table.owned(B).count() + table.owned(Owner(99)).count(), 0);
}
