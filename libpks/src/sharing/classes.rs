//! The classes of all views and the regions in them.
#![forbid(unsafe_code)]

use super::holders::{Edits, Holder, List, Lists};
use super::view::ViewKeys;
use super::{Change, SharingError, Spread};
use crate::cap::Owner;
use crate::pkey::{KeyError, Pkey, Rights};
use crate::table::{Arena, Id, OutOfMemory, Slot, Table};

/// End of a bucket's chain.
const NONE: u32 = u32::MAX;
/// Chains by which a class is found from its holders. More classes only make the chains longer.
const BUCKETS: usize = 64;

/// Names a class of regions that share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(Id);

/// One region's part in its class, in one view. Not `Clone`: each stands for one region in the class's counts.
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

/// A class: regions with the same holders in a view.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// The number of its view.
    view: u32,
    spread: Spread,
    holders: List,
    pinned: bool,
    key: Option<Pkey>,
    regions: u32,
    mapped: u32,
    /// The next class in the bucket.
    next: u32,
}

/// What two regions must have in common beside their holders: view and spread.
type Kind = (u32, Spread);

impl Class {
    const fn kind(&self) -> Kind {
        (self.view, self.spread)
    }
}

/// The classes of all views. `C` stores the classes, `H` their holders.
#[derive(Debug)]
pub struct Sharing<C, H> {
    classes: Arena<Class, C>,
    lists: Lists<H>,
    buckets: [u32; BUCKETS],
}

impl<C: Table<Slot<Class>>, H: Table<Slot<Holder>>> Sharing<C, H> {
    /// No classes, over two empty tables.
    pub const fn new(classes: C, holders: H) -> Self {
        Self { classes: Arena::new(classes), lists: Lists::new(holders), buckets: [NONE; BUCKETS] }
    }

    /// Takes a region into a view, where `domain` alone holds it, with at most `rights`. It is not mapped there yet.
    ///
    /// # Errors
    /// [`SharingError::OutOfMemory`].
    pub fn join(
        &mut self,
        view: &ViewKeys,
        domain: Owner,
        rights: Rights,
        spread: Spread,
    ) -> Result<Member, SharingError> {
        let (edits, kind) = (&[(domain, rights)], (view.number(), spread));
        let class = match self.find(kind, List::EMPTY, edits) {
            Some(index) => index,
            None => self.add_class(kind, List::EMPTY, edits)?,
        };
        self.enter(class, false)
    }

    /// Takes a region into a view under `key`, which somebody took from its pool for it. Regions of the same
    /// `key` share it if they have the same holders.
    ///
    /// # Errors
    /// [`SharingError::Pinned`] if the key is in use with other holders, [`SharingError::OutOfMemory`].
    pub fn join_pinned(
        &mut self,
        view: &mut ViewKeys,
        domain: Owner,
        rights: Rights,
        key: Pkey,
    ) -> Result<Member, SharingError> {
        let edits = &[(domain, rights)];
        let class = match self.class_with_key(view, key) {
            None => self.add_pinned_class(view, edits, key)?,
            Some(ClassId(id)) => {
                let class = self.class_in(view, ClassId(id))?;
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
    pub fn leave(&mut self, member: Member, view: &mut ViewKeys) -> Option<Pkey> {
        let Member { class: ClassId(id), mapped } = member;
        self.class_in(view, member.class).ok()?;
        self.exit(id.index, mapped, view)
    }

    /// The region gets mapped: the key for its pages.
    ///
    /// # Errors
    /// [`SharingError::WrongState`] if it is mapped, [`SharingError::Key`] if its class has no key yet and
    /// the pool gives none, [`SharingError::NoSuchClass`], as everywhere also for a member of another view.
    pub fn map(&mut self, member: &mut Member, view: &mut ViewKeys) -> Result<Pkey, SharingError> {
        if member.mapped {
            return Err(SharingError::WrongState);
        }
        let key = match self.class_in(view, member.class)?.key {
            Some(key) => key,
            None => view.allocate()?,
        };
        let ClassId(id) = member.class;
        self.classes.get_mut(id).ok_or(SharingError::NoSuchClass)?.mapped += 1;
        member.mapped = true;
        self.set_key(id.index, Some(key), view);
        Ok(key)
    }

    /// The region gets unmapped. Gives the key that nothing is under any more, as [`leave`](Self::leave) does.
    ///
    /// # Errors
    /// [`SharingError::WrongState`] if it is not mapped, [`SharingError::NoSuchClass`].
    pub fn unmap(&mut self, member: &mut Member, view: &mut ViewKeys) -> Result<Option<Pkey>, SharingError> {
        if !member.mapped {
            return Err(SharingError::WrongState);
        }
        self.class_in(view, member.class)?;
        let ClassId(id) = member.class;
        self.classes.get_mut(id).ok_or(SharingError::NoSuchClass)?.mapped -= 1;
        member.mapped = false;
        Ok(self.surplus_key(id.index, view))
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
        view: &mut ViewKeys,
    ) -> Result<Change, SharingError> {
        let spread = self.class_in(view, member.class)?.spread;
        self.set_holders(member, &[(domain, rights.unwrap_or(Rights::NoAccess))], spread, view)
    }

    /// What [`set_holder`](Self::set_holder) does, for several domains at one time, each of which is named once: the
    /// region goes from its class to that of its new holders and through none between, so that it needs no key on the
    /// way. `spread` is as it is from now on; under a pinned key it makes no difference.
    ///
    /// # Errors
    /// As [`set_holder`](Self::set_holder).
    pub fn set_holders(
        &mut self,
        member: &mut Member,
        edits: &[(Owner, Rights)],
        spread: Spread,
        view: &mut ViewKeys,
    ) -> Result<Change, SharingError> {
        let ClassId(id) = member.class;
        let class = self.class_in(view, member.class)?;
        let old_key = class.key.filter(|_| member.mapped);
        let same = Change { from: member.class, to: member.class, old_key, new_key: old_key, freed: None };
        let kind = (class.view, if class.pinned { class.spread } else { spread });
        if self.lists.is_unchanged(class.holders, edits) && kind.1 == class.spread {
            return Ok(same);
        }
        let target = if class.pinned { None } else { self.find(kind, class.holders, edits) };
        if target.is_none() && class.regions == 1 {
            self.edit_in_place(id.index, edits, kind.1)?;
            return Ok(same);
        }
        if class.pinned {
            return Err(SharingError::Pinned);
        }
        let new_key = match target.and_then(|index| self.classes.at(index)?.key) {
            key if !member.mapped || key.is_some() => key,
            _ if class.mapped == 1 => old_key,
            _ => Some(view.allocate()?),
        };
        let target = match target {
            Some(index) => index,
            None => self.add_class(kind, class.holders, edits).inspect_err(|_| {
                // Not used yet, so it can go straight back.
                if let Some(key) = new_key.filter(|key| Some(*key) != old_key) {
                    let _: Result<(), KeyError> = view.release(key);
                }
            })?,
        };
        Ok(self.transfer(member, target, old_key, new_key, view))
    }

    /// The hardware key of a class, if one of its regions is mapped or it is pinned.
    pub fn key(&self, class: ClassId) -> Option<Pkey> {
        self.classes.get(class.0)?.key
    }

    /// The class whose regions are under `key` in a view.
    pub fn class_with_key(&self, view: &ViewKeys, key: Pkey) -> Option<ClassId> {
        self.classes.id_at(view.class_of(key)?).map(ClassId)
    }

    /// Where those are who hold the regions of a class.
    pub fn spread(&self, class: ClassId) -> Option<Spread> {
        Some(self.classes.get(class.0)?.spread)
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

    /// A class, which must be of this view.
    fn class_in(&self, view: &ViewKeys, class: ClassId) -> Result<Class, SharingError> {
        let class = self.classes.get(class.0).filter(|class| class.view == view.number());
        class.copied().ok_or(SharingError::NoSuchClass)
    }

    /// Moves a member to another class, with its pages' key decided.
    fn transfer(
        &mut self,
        member: &mut Member,
        target: u32,
        old_key: Option<Pkey>,
        new_key: Option<Pkey>,
        view: &mut ViewKeys,
    ) -> Change {
        let from = member.class;
        let key_goes_along = member.mapped && old_key == new_key;
        if key_goes_along {
            self.set_key(from.0.index, None, view);
        }
        if member.mapped {
            self.set_key(target, new_key, view);
        }
        let freed = self.exit(from.0.index, member.mapped, view);
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
    fn exit(&mut self, index: u32, mapped: bool, view: &mut ViewKeys) -> Option<Pkey> {
        let class = self.classes.at_mut(index)?;
        class.regions -= 1;
        class.mapped -= u32::from(mapped);
        let (regions, pinned) = (class.regions, class.pinned);
        let surplus = self.surplus_key(index, view);
        if regions == 0 {
            if pinned {
                self.set_key(index, None, view);
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
    fn surplus_key(&mut self, index: u32, view: &mut ViewKeys) -> Option<Pkey> {
        let class = self.classes.at(index).filter(|class| class.mapped == 0 && !class.pinned)?;
        let key = class.key;
        self.set_key(index, None, view);
        key
    }

    fn set_key(&mut self, index: u32, key: Option<Pkey>, view: &mut ViewKeys) {
        let Some(class) = self.classes.at_mut(index) else { return };
        let before = core::mem::replace(&mut class.key, key);
        for (key, class) in [(before, None), (key, Some(index))] {
            if let Some(key) = key {
                view.set_class(key, class);
            }
        }
    }

    /// The class of a view that is not pinned and whose holders are `list` after `edits`.
    fn find(&self, kind: Kind, list: List, edits: Edits<'_>) -> Option<u32> {
        let mut at = *self.buckets.get(bucket(kind, self.lists.hash_after(list, edits)))?;
        while let Some(class) = self.classes.at(at) {
            if class.kind() == kind && self.lists.equals_after(list, edits, class.holders) {
                return Some(at);
            }
            at = class.next;
        }
        None
    }

    /// A class without regions whose holders are `list` after `edits`.
    fn add_class(&mut self, kind: Kind, list: List, edits: Edits<'_>) -> Result<u32, OutOfMemory> {
        let index = self.insert_class(kind, list, edits, false)?;
        self.chain(index);
        Ok(index)
    }

    /// A class without regions under a key that somebody took from the pool.
    fn add_pinned_class(
        &mut self,
        view: &mut ViewKeys,
        edits: Edits<'_>,
        key: Pkey,
    ) -> Result<u32, OutOfMemory> {
        let index = self.insert_class((view.number(), Spread::OneView), List::EMPTY, edits, true)?;
        self.set_key(index, Some(key), view);
        Ok(index)
    }

    fn insert_class(
        &mut self,
        (view, spread): Kind,
        list: List,
        edits: Edits<'_>,
        pinned: bool,
    ) -> Result<u32, OutOfMemory> {
        let holders = self.lists.copy_edited(list, edits)?;
        let class = Class { view, spread, holders, pinned, key: None, regions: 0, mapped: 0, next: NONE };
        match self.classes.insert(class) {
            Ok(id) => Ok(id.index),
            Err(error) => {
                self.lists.free(holders);
                Err(error)
            }
        }
    }

    fn edit_in_place(&mut self, index: u32, edits: Edits<'_>, spread: Spread) -> Result<(), SharingError> {
        let class = *self.classes.at(index).ok_or(SharingError::NoSuchClass)?;
        let mut holders = class.holders;
        self.lists.edit(&mut holders, edits)?;
        if !class.pinned {
            self.unchain(index);
        }
        if let Some(class) = self.classes.at_mut(index) {
            (class.holders, class.spread) = (holders, spread);
        }
        if !class.pinned {
            self.chain(index);
        }
        Ok(())
    }

    /// Puts a class into the bucket of its hash.
    fn chain(&mut self, index: u32) {
        let Some(class) = self.classes.at_mut(index) else { return };
        if let Some(head) = self.buckets.get_mut(bucket(class.kind(), class.holders.hash)) {
            class.next = core::mem::replace(head, index);
        }
    }

    /// Takes a class out of the bucket of its hash.
    fn unchain(&mut self, index: u32) {
        let Some(&class) = self.classes.at(index) else { return };
        let Some(head) = self.buckets.get_mut(bucket(class.kind(), class.holders.hash)) else { return };
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

/// The bucket of a class: the upper six bits of a hash of its kind and its holders.
const fn bucket((view, spread): Kind, hash: u64) -> usize {
    let kind = (view as u64) << 1 | spread as u64;
    ((hash ^ kind.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 58) as usize
}
