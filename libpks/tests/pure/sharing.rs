//! The rules of sharing classes, one by one.

use libpks::cap::Owner;
use libpks::pkey::{KeyError, Pkey, Rights};
use libpks::sharing::Spread::{ManyViews, OneView};
use libpks::sharing::{Class, Holder, Member, Sharing, SharingError, ViewKeys};
use libpks::table::Slot;

type Classes = Sharing<Vec<Slot<Class>>, Vec<Slot<Holder>>>;

const A: Owner = Owner(1);
const B: Owner = Owner(2);
const RO: Rights = Rights::ReadOnly;
const RW: Rights = Rights::ReadWrite;

fn classes() -> (Classes, ViewKeys) {
    (Sharing::new(Vec::new(), Vec::new()), ViewKeys::new(0))
}

/// A mapped region of `domain` alone, and its key.
fn mapped(classes: &mut Classes, keys: &mut ViewKeys, domain: Owner) -> (Member, Pkey) {
    let mut member = classes.join(keys, domain, RW, OneView).unwrap();
    let key = classes.map(&mut member, keys).unwrap();
    (member, key)
}

#[test]
fn all_private_regions_of_a_domain_share_its_key() {
    let (mut classes, mut keys) = classes();
    let (heap, heap_key) = mapped(&mut classes, &mut keys, A);
    let (stack, stack_key) = mapped(&mut classes, &mut keys, A);
    let (other, other_key) = mapped(&mut classes, &mut keys, B);
    assert_eq!((heap_key, heap.class()), (stack_key, stack.class()));
    assert_ne!(heap_key, other_key);
    assert_ne!(heap.class(), other.class());
    assert_eq!(keys.available(), 12);
}

#[test]
fn different_maximum_rights_are_different_classes() {
    let (mut classes, mut keys) = classes();
    let mut one = classes.join(&keys, A, RO, OneView).unwrap();
    let (_two, rw_key) = mapped(&mut classes, &mut keys, A);
    assert_ne!(classes.map(&mut one, &mut keys).unwrap(), rw_key);
}

#[test]
fn key_is_taken_with_the_first_mapping_and_freed_with_the_last() {
    let (mut classes, mut keys) = classes();
    let mut one = classes.join(&keys, A, RW, OneView).unwrap();
    let mut two = classes.join(&keys, A, RW, OneView).unwrap();
    assert_eq!((classes.key(one.class()), keys.available()), (None, 14));
    let key = classes.map(&mut one, &mut keys).unwrap();
    assert_eq!(classes.map(&mut two, &mut keys), Ok(key));
    assert_eq!(classes.map(&mut two, &mut keys), Err(SharingError::WrongState));
    assert_eq!(classes.unmap(&mut one, &mut keys), Ok(None));
    assert_eq!(classes.unmap(&mut one, &mut keys), Err(SharingError::WrongState));
    assert_eq!(classes.leave(two, &mut keys), Some(key));
    assert!(keys.is_allocated(key), "the caller gives it back after the flush");
    assert_eq!((classes.key(one.class()), classes.class_with_key(&keys, key)), (None, None));
}

#[test]
fn granting_one_of_two_regions_splits_them_and_taking_it_back_joins_them() {
    let (mut classes, mut keys) = classes();
    let (mut buffer, key) = mapped(&mut classes, &mut keys, A);
    let (heap, _) = mapped(&mut classes, &mut keys, A);
    let split = classes.set_holder(&mut buffer, B, Some(RO), &mut keys).unwrap();
    assert_eq!((split.from, split.to), (heap.class(), buffer.class()));
    assert_eq!((split.old_key, split.freed), (Some(key), None));
    let new_key = split.new_key.unwrap();
    assert_ne!(new_key, key);
    assert_eq!(classes.holders(buffer.class()).collect::<Vec<_>>(), [(A, RW), (B, RO)]);
    assert_eq!(classes.rights(heap.class(), B), Rights::NoAccess, "the heap stays private");

    let joined = classes.set_holder(&mut buffer, B, None, &mut keys).unwrap();
    assert_eq!((buffer.class(), joined.new_key, joined.freed), (heap.class(), Some(key), Some(new_key)));
}

#[test]
fn only_region_of_its_class_keeps_class_and_key_when_granted() {
    let (mut classes, mut keys) = classes();
    let (mut buffer, key) = mapped(&mut classes, &mut keys, A);
    while keys.allocate().is_ok() {}
    let change = classes.set_holder(&mut buffer, B, Some(RW), &mut keys).unwrap();
    assert_eq!(
        (change.from, change.old_key, change.new_key, change.freed),
        (change.to, Some(key), Some(key), None)
    );
    let again = classes.set_holder(&mut buffer, B, Some(RW), &mut keys).unwrap();
    assert_eq!(again, change, "nothing new");
}

#[test]
fn key_goes_along_if_only_this_region_was_under_it() {
    let (mut classes, mut keys) = classes();
    let unmapped = classes.join(&keys, A, RW, OneView).unwrap();
    let (mut buffer, key) = mapped(&mut classes, &mut keys, A);
    while keys.allocate().is_ok() {}
    let change = classes.set_holder(&mut buffer, B, Some(RW), &mut keys).unwrap();
    assert_eq!((change.old_key, change.new_key, change.freed), (Some(key), Some(key), None));
    assert_eq!(
        (classes.key(unmapped.class()), classes.class_with_key(&keys, key)),
        (None, Some(buffer.class()))
    );
}

#[test]
fn exhausted_keys_are_an_error_that_changes_nothing() {
    let (mut classes, mut keys) = classes();
    let (mut one, key) = mapped(&mut classes, &mut keys, A);
    let (_two, _) = mapped(&mut classes, &mut keys, A);
    let mut other = classes.join(&keys, B, RW, OneView).unwrap();
    while keys.allocate().is_ok() {}
    let exhausted = SharingError::Key(KeyError::Exhausted);
    let before = classes.in_use();
    assert_eq!(classes.map(&mut other, &mut keys), Err(exhausted));
    assert_eq!(classes.set_holder(&mut one, B, Some(RO), &mut keys), Err(exhausted));
    assert_eq!(classes.in_use(), before);
    assert_eq!((other.is_mapped(), classes.key(one.class())), (false, Some(key)));
    assert_eq!(classes.rights(one.class(), B), Rights::NoAccess);
}

#[test]
fn pinned_key_is_never_merged_and_never_freed() {
    let (mut classes, mut keys) = classes();
    let (private, private_key) = mapped(&mut classes, &mut keys, A);
    let pin = keys.allocate().unwrap();
    let mut pinned = classes.join_pinned(&mut keys, A, RW, pin).unwrap();
    assert_eq!(classes.map(&mut pinned, &mut keys), Ok(pin));
    assert_ne!((pinned.class(), pin), (private.class(), private_key));
    let (third, third_key) = mapped(&mut classes, &mut keys, A);
    assert_eq!((third.class(), third_key), (private.class(), private_key));
    assert_eq!(classes.unmap(&mut pinned, &mut keys), Ok(None));
    assert_eq!(classes.key(pinned.class()), Some(pin));
    assert_eq!(classes.leave(pinned, &mut keys), None);
    assert_eq!(classes.class_with_key(&keys, pin), None);
    assert!(keys.is_allocated(pin));
}

#[test]
fn pinned_key_cannot_leak_one_region_through_another() {
    let (mut classes, mut keys) = classes();
    let pin = keys.allocate().unwrap();
    let mut one = classes.join_pinned(&mut keys, A, RW, pin).unwrap();
    let change = classes.set_holder(&mut one, B, Some(RO), &mut keys).unwrap();
    assert_eq!(change.from, change.to);
    assert_eq!(classes.join_pinned(&mut keys, A, RW, pin), Err(SharingError::Pinned), "other holders");
    let _ = classes.set_holder(&mut one, B, None, &mut keys).unwrap();
    let two = classes.join_pinned(&mut keys, A, RW, pin).unwrap();
    assert_eq!(two.class(), one.class());
    assert_eq!(classes.set_holder(&mut one, B, Some(RO), &mut keys), Err(SharingError::Pinned));
    assert_eq!(classes.rights(two.class(), B), Rights::NoAccess);
    let (_private, key) = mapped(&mut classes, &mut keys, A);
    assert_eq!(
        classes.join_pinned(&mut keys, A, RW, key),
        Err(SharingError::Pinned),
        "a key that is not pinned"
    );
}

#[test]
fn nothing_is_left_when_all_regions_have_gone() {
    let (mut classes, mut keys) = classes();
    let members: Vec<Member> = (0..200)
        .map(|number| {
            let mut member = classes.join(&keys, Owner(number), RW, OneView).unwrap();
            let _ = classes.set_holder(&mut member, Owner(number / 2 + 300), Some(RO), &mut keys).unwrap();
            member
        })
        .collect();
    assert_eq!(classes.in_use(), (200, 400));
    assert_eq!(classes.classes().count(), 200);
    for member in members {
        assert_eq!(classes.leave(member, &mut keys), None);
    }
    assert_eq!(classes.in_use(), (0, 0));
}

#[test]
fn handing_over_needs_no_key_on_the_way() {
    let (mut classes, mut keys) = classes();
    // Each of two domains has memory of its own, so a region of the one that the other gets has a key waiting for it.
    let (mut buffer, own) = mapped(&mut classes, &mut keys, A);
    let (_heap, _) = mapped(&mut classes, &mut keys, A);
    let (other, others) = mapped(&mut classes, &mut keys, B);
    while keys.allocate().is_ok() {}
    let on_the_way = classes.set_holder(&mut buffer, B, Some(RW), &mut keys);
    assert_eq!(on_the_way, Err(SharingError::Key(KeyError::Exhausted)), "both at one time would need one");
    let edits = [(A, Rights::NoAccess), (B, RW)];
    let change = classes.set_holders(&mut buffer, &edits, OneView, &mut keys).unwrap();
    assert_eq!((change.old_key, change.new_key, change.freed), (Some(own), Some(others), None));
    assert_eq!(buffer.class(), other.class());
    let again = classes.set_holders(&mut buffer, &edits, OneView, &mut keys).unwrap();
    assert_eq!((again.from, again.to, again.new_key), (other.class(), other.class(), Some(others)));
}

#[test]
fn views_know_nothing_of_each_other() {
    let mut classes = Classes::new(Vec::new(), Vec::new());
    let (mut here, mut there) = (ViewKeys::new(0), ViewKeys::new(1));
    let (mut one, key) = mapped(&mut classes, &mut here, A);
    let (two, same) = mapped(&mut classes, &mut there, A);
    assert_eq!(key, same, "each view has its own keys");
    assert_ne!(one.class(), two.class(), "and its own classes, of the same holders too");
    assert_eq!(classes.class_with_key(&here, key), Some(one.class()));
    assert_eq!(classes.class_with_key(&there, key), Some(two.class()));

    let change = classes.set_holder(&mut one, B, Some(RO), &mut here).unwrap();
    assert_eq!(classes.rights(two.class(), B), Rights::NoAccess, "a holder here holds nothing there");
    assert_eq!(change.new_key, Some(key));
    assert_eq!(classes.leave(two, &mut there), Some(key));
    assert_eq!((there.available(), here.available()), (13, 13), "the caller gives it back");
}

#[test]
fn members_of_another_view_are_refused() {
    let mut classes = Classes::new(Vec::new(), Vec::new());
    let (mut here, mut there) = (ViewKeys::new(0), ViewKeys::new(1));
    let mut unmapped = classes.join(&here, A, RW, OneView).unwrap();
    let (mut member, key) = mapped(&mut classes, &mut here, A);
    let wrong = SharingError::NoSuchClass;
    assert_eq!(classes.map(&mut unmapped, &mut there), Err(wrong));
    assert_eq!(classes.unmap(&mut member, &mut there), Err(wrong));
    assert_eq!(classes.set_holder(&mut member, B, Some(RO), &mut there), Err(wrong));
    assert_eq!((there.available(), classes.key(member.class())), (14, Some(key)));
    assert_eq!(classes.leave(member, &mut there), None);
    assert_eq!(classes.class_with_key(&here, key), Some(unmapped.class()), "nothing has changed");
}

#[test]
fn what_is_shared_with_another_view_is_not_under_the_private_key() {
    let (mut classes, mut keys) = classes();
    let (private, own) = mapped(&mut classes, &mut keys, A);
    let (mut region, _) = mapped(&mut classes, &mut keys, A);
    let change = classes.set_holders(&mut region, &[], ManyViews, &mut keys).unwrap();
    assert_eq!((change.old_key, change.freed), (Some(own), None));
    let shared = change.new_key.unwrap();
    assert_ne!(shared, own);
    // All that A shares with other views is under one key.
    let mut other = classes.join(&keys, A, RW, ManyViews).unwrap();
    assert_eq!((classes.map(&mut other, &mut keys), other.class()), (Ok(shared), region.class()));
    // Holders change without that.
    let change = classes.set_holder(&mut other, B, Some(RO), &mut keys).unwrap();
    assert!(change.new_key != Some(shared) && change.new_key != Some(own));
    let back = classes.set_holders(&mut region, &[], OneView, &mut keys).unwrap();
    assert_eq!((back.new_key, region.class()), (Some(own), private.class()));
    let same = classes.set_holders(&mut region, &[], OneView, &mut keys).unwrap();
    assert_eq!((same.from, same.to), (region.class(), region.class()));
}

#[test]
fn a_pinned_key_does_not_depend_on_other_views() {
    let (mut classes, mut keys) = classes();
    let pin = keys.allocate().unwrap();
    let mut one = classes.join_pinned(&mut keys, A, RW, pin).unwrap();
    let two = classes.join_pinned(&mut keys, A, RW, pin).unwrap();
    let change = classes.set_holders(&mut one, &[], ManyViews, &mut keys).unwrap();
    assert_eq!((change.from, change.to, one.class()), (two.class(), two.class(), two.class()));
}
