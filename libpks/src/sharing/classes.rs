//! The classes of a view and the regions in them.
#![forbid(unsafe_code)]

use super::holders::{Edits, Holder, List, Lists};
use super::{Change, SharingError};
use crate::cap::Owner;
use crate::pkey::{KEYS, KeyAllocator, KeyError, Pkey, Rights};
use crate::table::{Arena, Id, OutOfMemory, Slot, Table};

/// End of a bucket's chain, and "no class" for a key.
const NONE: u32 = u32::MAX;
/// Chains by which a class is found from its holders. More classes only make the chains longer.
const BUCKETS: usize = 64;

/// Names a class of regions that share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(Id);

/// One region's part in its class. Not `Clone`: each stands for one region in the class's counts.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a member that is dropped instead of leaving keeps its class for ever"]
pub struct Member {
    class: ClassId,
    mapped: bool,
}

impl Member {
    /// The class that the region is in.
    pub const fn class(&self) -> ClassId {
        self.class
    }

    /// Whether the region is mapped, so that its class has a key.
    pub const fn is_mapped(&self) -> bool {
        self.mapped
    }
}

/// A class: regions with the same holders.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    holders: List,
    pinned: bool,
    key: Option<Pkey>,
    regions: u32,
    mapped: u32,
    /// The next class in the bucket.
    next: u32,
}

/// The classes of one view. `C` stores the classes, `H` their holders.
#[derive(Debug)]
pub struct Sharing<C, H> {
    classes: Arena<Class, C>,
    lists: Lists<H>,
    buckets: [u32; BUCKETS],
    by_key: [u32; KEYS as usize],
}

impl<C: Table<Slot<Class>>, H: Table<Slot<Holder>>> Sharing<C, H> {
    /// No classes, over two empty tables.
    pub const fn new(classes: C, holders: H) -> Self {
        Self {
            classes: Arena::new(classes),
            lists: Lists::new(holders),
            buckets: [NONE; BUCKETS],
            by_key: [NONE; KEYS as usize],
        }
    }

    /// Takes in a new region that `domain` holds with at most `rights`. It is not mapped yet.
    ///
    /// # Errors
    /// [`SharingError::OutOfMemory`].
    pub fn join(&mut self, domain: Owner, rights: Rights) -> Result<Member, SharingError> {
        let edits = &[(domain, rights)];
        let class = match self.find(List::EMPTY, edits) {
            Some(index) => index,
            None => self.add_class(List::EMPTY, edits, None)?,
        };
        self.enter(class, false)
    }

    /// Takes in a new region under `key`, which somebody took from the pool for it. Regions of the same
    /// `key` share it if they have the same holders.
    ///
    /// # Errors
    /// [`SharingError::Pinned`] if the key is in use with other holders, [`SharingError::OutOfMemory`].
    pub fn join_pinned(&mut self, domain: Owner, rights: Rights, key: Pkey) -> Result<Member, SharingError> {
        let edits = &[(domain, rights)];
        let class = match self.class_with_key(key) {
            None => self.add_class(List::EMPTY, edits, Some(key))?,
            Some(ClassId(id)) => {
                let class = self.classes.get(id).ok_or(SharingError::NoSuchClass)?;
                if !class.pinned || !self.lists.equals_after(List::EMPTY, edits, class.holders) {
                    return Err(SharingError::Pinned);
                }
                id.index
            }
        };
        self.enter(class, false)
    }

    /// A region goes. Gives the hardware key that nothing is under any more, which is still allocated: see
    /// [`Change::freed`]. A pinned key is never given: it belongs to who took it from the pool.
    pub fn leave(&mut self, member: Member) -> Option<Pkey> {
        let Member { class: ClassId(id), mapped } = member;
        self.classes.get(id)?;
        self.exit(id.index, mapped)
    }

    /// The region gets mapped: the key for its pages.
    ///
    /// # Errors
    /// [`SharingError::WrongState`] if it is mapped, [`SharingError::Key`] if its class has no key yet and
    /// the pool gives none, [`SharingError::NoSuchClass`].
    pub fn map(&mut self, member: &mut Member, keys: &mut KeyAllocator) -> Result<Pkey, SharingError> {
        if member.mapped {
            return Err(SharingError::WrongState);
        }
        let ClassId(id) = member.class;
        let class = self.classes.get_mut(id).ok_or(SharingError::NoSuchClass)?;
        let key = match class.key {
            Some(key) => key,
            None => keys.allocate()?,
        };
        class.mapped += 1;
        member.mapped = true;
        self.set_key(id.index, Some(key));
        Ok(key)
    }

    /// The region gets unmapped. Gives the key that nothing is under any more, as [`leave`](Self::leave) does.
    ///
    /// # Errors
    /// [`SharingError::WrongState`] if it is not mapped, [`SharingError::NoSuchClass`].
    pub fn unmap(&mut self, member: &mut Member) -> Result<Option<Pkey>, SharingError> {
        if !member.mapped {
            return Err(SharingError::WrongState);
        }
        let ClassId(id) = member.class;
        let class = self.classes.get_mut(id).ok_or(SharingError::NoSuchClass)?;
        class.mapped -= 1;
        member.mapped = false;
        Ok(self.surplus_key(id.index))
    }

    /// `domain` holds the region with at most `rights` from now on, or, with `None`, no longer.
    ///
    /// If the region is the only mapped one of its class, its key goes with it where it can, so that this
    /// neither needs a key nor touches pages.
    ///
    /// # Errors
    /// [`SharingError::Pinned`] for one of several regions under a pinned key, [`SharingError::Key`] if a key
    /// more is needed and there is none, [`SharingError::OutOfMemory`], [`SharingError::NoSuchClass`].
    pub fn set_holder(
        &mut self,
        member: &mut Member,
        domain: Owner,
        rights: Option<Rights>,
        keys: &mut KeyAllocator,
    ) -> Result<Change, SharingError> {
        self.set_holders(member, &[(domain, rights.unwrap_or(Rights::NoAccess))], keys)
    }

    /// What [`set_holder`](Self::set_holder) does, for several domains at one time, each of which is named once: the
    /// region goes from its class to that of its new holders and through none between, so that it needs no key on the
    /// way.
    ///
    /// # Errors
    /// As [`set_holder`](Self::set_holder).
    pub fn set_holders(
        &mut self,
        member: &mut Member,
        edits: &[(Owner, Rights)],
        keys: &mut KeyAllocator,
    ) -> Result<Change, SharingError> {
        let ClassId(id) = member.class;
        let class = *self.classes.get(id).ok_or(SharingError::NoSuchClass)?;
        let old_key = class.key.filter(|_| member.mapped);
        let same = Change { from: member.class, to: member.class, old_key, new_key: old_key, freed: None };
        if self.lists.is_unchanged(class.holders, edits) {
            return Ok(same);
        }
        let target = if class.pinned { None } else { self.find(class.holders, edits) };
        if target.is_none() && class.regions == 1 {
            self.edit_in_place(id.index, edits)?;
            return Ok(same);
        }
        if class.pinned {
            return Err(SharingError::Pinned);
        }
        let new_key = match target.and_then(|index| self.classes.at(index)?.key) {
            key if !member.mapped || key.is_some() => key,
            _ if class.mapped == 1 => old_key,
            _ => Some(keys.allocate()?),
        };
        let target = match target {
            Some(index) => index,
            None => self.add_class(class.holders, edits, None).inspect_err(|_| {
                // Not used yet, so it can go straight back.
                if let Some(key) = new_key.filter(|key| Some(*key) != old_key) {
                    let _: Result<(), KeyError> = keys.release(key);
                }
            })?,
        };
        Ok(self.transfer(member, target, old_key, new_key))
    }

    /// The hardware key of a class, if one of its regions is mapped or it is pinned.
    pub fn key(&self, class: ClassId) -> Option<Pkey> {
        self.classes.get(class.0)?.key
    }

    /// The class whose regions are under `key`.
    pub fn class_with_key(&self, key: Pkey) -> Option<ClassId> {
        let index = *self.by_key.get(usize::from(key.index()))?;
        self.classes.id_at(index).map(ClassId)
    }

    /// Who holds the regions of a class, by domain.
    pub fn holders(&self, class: ClassId) -> impl Iterator<Item = (Owner, Rights)> {
        self.lists.iter(self.classes.get(class.0).map_or(List::EMPTY, |class| class.holders))
    }

    /// The most that `domain` may do with the regions of a class.
    pub fn rights(&self, class: ClassId, domain: Owner) -> Rights {
        let list = self.classes.get(class.0).map_or(List::EMPTY, |class| class.holders);
        self.lists.rights(list, domain)
    }

    /// All classes.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> {
        self.classes.iter().map(|(id, _)| ClassId(id))
    }

    /// How many entries of the two tables are in use: classes and holders.
    pub const fn in_use(&self) -> (u32, u32) {
        (self.classes.len(), self.lists.len())
    }

    /// Moves a member to another class, with its pages' key decided.
    fn transfer(
        &mut self,
        member: &mut Member,
        target: u32,
        old_key: Option<Pkey>,
        new_key: Option<Pkey>,
    ) -> Change {
        let from = member.class;
        let key_goes_along = member.mapped && old_key == new_key;
        if key_goes_along {
            self.set_key(from.0.index, None);
        }
        if member.mapped {
            self.set_key(target, new_key);
        }
        let freed = self.exit(from.0.index, member.mapped);
        if let Some(class) = self.classes.at_mut(target) {
            class.regions += 1;
            class.mapped += u32::from(member.mapped);
        }
        if let Some(id) = self.classes.id_at(target) {
            member.class = ClassId(id);
        }
        Change { from, to: member.class, old_key, new_key: new_key.filter(|_| member.mapped), freed }
    }

    /// Counts one more region into a class.
    fn enter(&mut self, index: u32, mapped: bool) -> Result<Member, SharingError> {
        let id = self.classes.id_at(index).ok_or(SharingError::NoSuchClass)?;
        let class = self.classes.get_mut(id).ok_or(SharingError::NoSuchClass)?;
        class.regions += 1;
        Ok(Member { class: ClassId(id), mapped })
    }

    /// Counts a region out of a class; the class goes with its last. Gives the key that is not needed more.
    fn exit(&mut self, index: u32, mapped: bool) -> Option<Pkey> {
        let class = self.classes.at_mut(index)?;
        class.regions -= 1;
        class.mapped -= u32::from(mapped);
        let (regions, pinned) = (class.regions, class.pinned);
        let surplus = self.surplus_key(index);
        if regions == 0 {
            if pinned {
                self.set_key(index, None);
            } else {
                self.unchain(index);
            }
            if let Some(class) = self.classes.id_at(index).and_then(|id| self.classes.remove(id)) {
                self.lists.free(class.holders);
            }
        }
        surplus
    }

    /// Takes the key of a class that has no mapped region.
    fn surplus_key(&mut self, index: u32) -> Option<Pkey> {
        let class = self.classes.at(index).filter(|class| class.mapped == 0 && !class.pinned)?;
        let key = class.key;
        self.set_key(index, None);
        key
    }

    fn set_key(&mut self, index: u32, key: Option<Pkey>) {
        let Some(class) = self.classes.at_mut(index) else { return };
        let before = core::mem::replace(&mut class.key, key);
        for (key, value) in [(before, NONE), (key, index)] {
            if let Some(entry) = key.and_then(|key| self.by_key.get_mut(usize::from(key.index()))) {
                *entry = value;
            }
        }
    }

    /// The class that is not pinned and whose holders are `list` after `edits`.
    fn find(&self, list: List, edits: Edits<'_>) -> Option<u32> {
        let mut at = *self.buckets.get(bucket(self.lists.hash_after(list, edits)))?;
        while let Some(class) = self.classes.at(at) {
            if self.lists.equals_after(list, edits, class.holders) {
                return Some(at);
            }
            at = class.next;
        }
        None
    }

    /// A class without regions whose holders are `list` after `edits`, under `pin` if given.
    fn add_class(&mut self, list: List, edits: Edits<'_>, pin: Option<Pkey>) -> Result<u32, OutOfMemory> {
        let holders = self.lists.copy_edited(list, edits)?;
        let class = Class { holders, pinned: pin.is_some(), key: None, regions: 0, mapped: 0, next: NONE };
        let id = match self.classes.insert(class) {
            Ok(id) => id,
            Err(error) => {
                self.lists.free(holders);
                return Err(error);
            }
        };
        match pin {
            None => self.chain(id.index),
            pin => self.set_key(id.index, pin),
        }
        Ok(id.index)
    }

    fn edit_in_place(&mut self, index: u32, edits: Edits<'_>) -> Result<(), SharingError> {
        let class = *self.classes.at(index).ok_or(SharingError::NoSuchClass)?;
        let mut holders = class.holders;
        self.lists.edit(&mut holders, edits)?;
        if !class.pinned {
            self.unchain(index);
        }
        if let Some(class) = self.classes.at_mut(index) {
            class.holders = holders;
        }
        if !class.pinned {
            self.chain(index);
        }
        Ok(())
    }

    /// Puts a class into the bucket of its hash.
    fn chain(&mut self, index: u32) {
        let Some(class) = self.classes.at_mut(index) else { return };
        if let Some(head) = self.buckets.get_mut(bucket(class.holders.hash)) {
            class.next = core::mem::replace(head, index);
        }
    }

    /// Takes a class out of the bucket of its hash.
    fn unchain(&mut self, index: u32) {
        let Some(&class) = self.classes.at(index) else { return };
        let Some(head) = self.buckets.get_mut(bucket(class.holders.hash)) else { return };
        if *head == index {
            *head = class.next;
            return;
        }
        let mut at = *head;
        while let Some(before) = self.classes.at_mut(at) {
            if before.next == index {
                before.next = class.next;
                return;
            }
            at = before.next;
        }
    }
}

/// The bucket of a hash: its upper six bits.
const fn bucket(hash: u64) -> usize {
    (hash >> 58) as usize
}
