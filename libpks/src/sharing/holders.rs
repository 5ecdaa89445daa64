//! Sorted lists of who holds a region with which maximum rights.
#![forbid(unsafe_code)]

use crate::cap::Owner;
use crate::pkey::Rights;
use crate::table::{Arena, OutOfMemory, Slot, Table};

/// End of a list.
const NONE: u32 = u32::MAX;

/// One domain's hold on the regions of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    domain: Owner,
    rights: Rights,
    next: u32,
}

/// A list in a [`Lists`], sorted by domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    /// Independent of the order, so that it can be told how it would be after a change.
    pub(super) hash: u64,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, hash: 0 };
}

/// Storage of all lists.
#[derive(Debug)]
pub(super) struct Lists<H> {
    arena: Arena<Holder, H>,
}

/// A list as it would be with these domains' rights replaced; each is named once. Rights of no access are no hold.
pub(super) type Edits<'a> = &'a [(Owner, Rights)];

/// What an edit says of a domain, if anything.
fn edited(edits: Edits<'_>, domain: Owner) -> Option<Rights> {
    edits.iter().find(|edit| edit.0 == domain).map(|edit| edit.1)
}

impl<H: Table<Slot<Holder>>> Lists<H> {
    pub(super) const fn new(table: H) -> Self {
        Self { arena: Arena::new(table) }
    }

    /// The holders of a list, by domain.
    pub(super) fn iter(&self, list: List) -> impl Iterator<Item = (Owner, Rights)> {
        let first = self.arena.at(list.first);
        core::iter::successors(first, |holder| self.arena.at(holder.next))
            .map(|holder| (holder.domain, holder.rights))
    }

    /// What `domain` has in a list.
    pub(super) fn rights(&self, list: List, domain: Owner) -> Rights {
        self.iter(list).find(|holder| holder.0 == domain).map_or(Rights::NoAccess, |holder| holder.1)
    }

    /// Whether `edits` change nothing in `list`.
    pub(super) fn is_unchanged(&self, list: List, edits: Edits<'_>) -> bool {
        edits.iter().all(|&(domain, rights)| self.rights(list, domain) == rights)
    }

    /// The hash that `list` has after `edits`.
    pub(super) fn hash_after(&self, list: List, edits: Edits<'_>) -> u64 {
        edits.iter().fold(list.hash, |sum, &(domain, rights)| {
            sum ^ hash(domain, self.rights(list, domain)) ^ hash(domain, rights)
        })
    }

    /// Whether `list` after `edits` equals `other`.
    pub(super) fn equals_after(&self, list: List, edits: Edits<'_>, other: List) -> bool {
        let unchanged = |holder: &(Owner, Rights)| edited(edits, holder.0).is_none();
        self.is_unchanged(other, edits)
            && self.iter(list).filter(unchanged).eq(self.iter(other).filter(unchanged))
    }

    /// Changes a list in place.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the list is then unchanged.
    pub(super) fn edit(&mut self, list: &mut List, edits: Edits<'_>) -> Result<(), OutOfMemory> {
        let enters = |&&(domain, rights): &&(Owner, Rights)| {
            rights > Rights::NoAccess && self.rights(*list, domain) == Rights::NoAccess
        };
        let more = edits.iter().filter(enters).count();
        self.arena.reserve(more as u32)?;
        edits.iter().try_for_each(|&(domain, rights)| self.edit_one(list, domain, rights))
    }

    fn edit_one(&mut self, list: &mut List, domain: Owner, rights: Rights) -> Result<(), OutOfMemory> {
        let hash = self.hash_after(*list, &[(domain, rights)]);
        let mut prev = NONE;
        let mut at = list.first;
        while let Some(holder) = self.arena.at(at).filter(|holder| holder.domain < domain) {
            (prev, at) = (at, holder.next);
        }
        let found = self.arena.at(at).filter(|holder| holder.domain == domain).copied();
        let replacement = match (found, rights) {
            (None, Rights::NoAccess) => return Ok(()),
            (None, rights) => self.arena.insert(Holder { domain, rights, next: at })?.index,
            (Some(holder), Rights::NoAccess) => {
                self.discard(at);
                holder.next
            }
            (Some(_), rights) => {
                if let Some(holder) = self.arena.at_mut(at) {
                    holder.rights = rights;
                }
                at
            }
        };
        match self.arena.at_mut(prev) {
            Some(holder) => holder.next = replacement,
            None => list.first = replacement,
        }
        list.hash = hash;
        Ok(())
    }

    /// A new list: `list` after `edits`.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing is left behind.
    pub(super) fn copy_edited(&mut self, list: List, edits: Edits<'_>) -> Result<List, OutOfMemory> {
        let mut copy = List::EMPTY;
        match self.append_all(&mut copy, list).and_then(|()| self.edit(&mut copy, edits)) {
            Ok(()) => Ok(copy),
            Err(error) => {
                self.free(copy);
                Err(error)
            }
        }
    }

    fn append_all(&mut self, copy: &mut List, list: List) -> Result<(), OutOfMemory> {
        let mut last = NONE;
        let mut at = list.first;
        while let Some(&holder) = self.arena.at(at) {
            let added = self.arena.insert(Holder { next: NONE, ..holder })?.index;
            match self.arena.at_mut(last) {
                Some(previous) => previous.next = added,
                None => copy.first = added,
            }
            (last, at) = (added, holder.next);
        }
        copy.hash = list.hash;
        Ok(())
    }

    /// Frees all entries of a list.
    pub(super) fn free(&mut self, list: List) {
        let mut at = list.first;
        while let Some(holder) = self.arena.at(at) {
            let next = holder.next;
            self.discard(at);
            at = next;
        }
    }

    /// Number of entries in use, for checks.
    pub(super) const fn len(&self) -> u32 {
        self.arena.len()
    }

    fn discard(&mut self, index: u32) {
        if let Some(id) = self.arena.id_at(index) {
            self.arena.remove(id);
        }
    }
}

/// A hash of one hold; 0 for none. (The finaliser of SplitMix64, Steele et al., OOPSLA 2014.)
fn hash(domain: Owner, rights: Rights) -> u64 {
    if rights == Rights::NoAccess {
        return 0;
    }
    let mut x = (u64::from(domain.0) << 2 | rights as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
