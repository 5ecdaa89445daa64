//! Regions: memory at one address for everybody, under the key of its sharing class; and the keys that were taken from
//! the pool.

use crate::arch::protection;
use crate::domain::{Domain, Payer};
use crate::mem::{self, Mapping, PAGE, translations};
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::{Error, layout};
use libpks::cap::{CapRights, Capability, Handle, ObjectKind, Owner};
use libpks::pkey::{Pkey, Rights};
use libpks::sharing::Member;

/// Memory at one address for everybody, under the key of its sharing class.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) address: u64,
    pub(crate) pages: u64,
    /// Who pays for it.
    pub(crate) payer: Payer,
    /// Its neighbours by address.
    previous: Option<Ref<Region>>,
    next: Option<Ref<Region>>,
    pub(crate) member: Member,
    /// The key that its pages carry. While its class has no key, that is the kernel's, and nobody reaches it.
    pub(crate) key: Pkey,
    /// The key that it was made under, if somebody asked for one.
    pub(crate) pooled: Option<Ref<PooledKey>>,
    /// Capabilities that name it.
    pub(crate) refs: u32,
}

/// A hardware key that was taken from the pool.
#[derive(Debug)]
pub(crate) struct PooledKey {
    pub(crate) key: Pkey,
    /// Capabilities that name it.
    pub(crate) refs: u32,
    /// Regions under it. The key goes back when both are 0.
    pub(crate) regions: u32,
}

impl Kernel {
    /// Makes a region of whole pages, zeroed and closed for all. `pooled`: under this key and no other.
    ///
    /// # Errors
    /// `InvalidArgument` for no bytes or too many, `LimitReached`, `QuotaExceeded`, `KeysExhausted`, `OutOfMemory`,
    /// `Busy` if the pooled key is in use with other holders.
    pub(crate) fn create_region(
        &mut self,
        payer: Ref<Domain>,
        bytes: u64,
        pooled: Option<Ref<PooledKey>>,
    ) -> Result<(Handle, u64), Error> {
        let pages = bytes.div_ceil(PAGE);
        if pages == 0 || pages > layout::REGIONS_BYTES / PAGE {
            return Err(Error::InvalidArgument);
        }
        let (previous, address) = self.find_room(pages).ok_or(Error::LimitReached)?;
        let paid = self.charge_lasting(payer, pages * PAGE)?;
        let region = self
            .new_region(paid, address, pages, pooled)
            .inspect_err(|_| self.refund_lasting(paid, pages * PAGE))?;
        self.link_region(region, previous);
        let rights = CapRights::READ | CapRights::WRITE | CapRights::GRANT | CapRights::MANAGE;
        let capability = Capability { object: region.object(ObjectKind::Region), rights, badge: 0 };
        let filled = self.fill_region(region);
        let handle = filled.and_then(|()| Ok(self.caps.insert_root(Owner(payer.number()), capability)?));
        match handle {
            Ok(handle) => Ok((handle, address)),
            Err(error) => {
                self.destroy_region(region);
                Err(error)
            }
        }
    }

    /// The lowest place where so many pages fit, with a guard page behind them, and the region before it.
    fn find_room(&self, pages: u64) -> Option<(Option<Ref<Region>>, u64)> {
        let bytes = (pages + 1) * PAGE;
        let (mut previous, mut address, mut next) = (None, layout::REGIONS_BASE, self.first_region);
        while let Some(at) = next.filter(|&at| self.regions[at].address - address < bytes) {
            let Region { address: start, pages, next: behind, .. } = self.regions[at];
            (previous, address, next) = (Some(at), start + (pages + 1) * PAGE, behind);
        }
        let end = layout::REGIONS_BASE + layout::REGIONS_BYTES;
        (address + bytes <= end).then_some((previous, address))
    }

    /// Puts a region into the list behind another, or at its head.
    fn link_region(&mut self, region: Ref<Region>, previous: Option<Ref<Region>>) {
        let next = match previous {
            Some(at) => self.regions[at].next.replace(region),
            None => self.first_region.replace(region),
        };
        if let Some(at) = next {
            self.regions[at].previous = Some(region);
        }
        let books = &mut self.regions[region];
        (books.previous, books.next) = (previous, next);
    }

    /// Closes the gap in the list that a region left.
    fn unlink_region(&mut self, region: &Region) {
        match region.previous {
            Some(at) => self.regions[at].next = region.next,
            None => self.first_region = region.next,
        }
        if let Some(at) = region.next {
            self.regions[at].previous = region.previous;
        }
    }

    /// The books of a new region, in its class.
    fn new_region(
        &mut self,
        payer: Payer,
        address: u64,
        pages: u64,
        pooled: Option<Ref<PooledKey>>,
    ) -> Result<Ref<Region>, Error> {
        let owner = Owner(payer.domain.number());
        let mut member = match pooled {
            Some(at) => self.sharing.join_pinned(owner, Rights::ReadWrite, self.pooled_keys[at].key)?,
            None => self.sharing.join(owner, Rights::ReadWrite)?,
        };
        let key = self.map_class(&mut member);
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                self.leave_class(member);
                return Err(error);
            }
        };
        // A region that finds no place in the table takes its member along; the class is told first.
        if self.regions.reserve(1).is_err() {
            self.leave_class(member);
            return Err(Error::OutOfMemory);
        }
        if let Some(at) = pooled {
            self.pooled_keys[at].regions += 1;
        }
        let (previous, next) = (None, None);
        let region = Region { address, pages, payer, previous, next, member, key, pooled, refs: 1 };
        Ok(self.regions.insert(region)?)
    }

    /// The key for the pages of a region that gets mapped. Without PKS there is only the open one.
    fn map_class(&mut self, member: &mut Member) -> Result<Pkey, Error> {
        if !protection::in_force().has_keys() {
            return Ok(Pkey::OPEN);
        }
        let key = self.sharing.map(member, &mut self.keys)?;
        translations::note_keys(&self.keys);
        Ok(key)
    }

    /// A region leaves its class; a key that nothing is under any more goes back. No TLB has its pages any more.
    fn leave_class(&mut self, member: Member) {
        if let Some(key) = self.sharing.leave(member) {
            self.release_key(key);
        }
    }

    /// Gives a hardware key back. No page and no TLB entry carries it; afterwards no rights word opens it.
    pub(crate) fn release_key(&mut self, key: Pkey) {
        self.recompute_words();
        self.keys.release(key).expect("only keys that were taken are given back");
        translations::note_keys(&self.keys);
    }

    /// Backs a region with frames and maps it.
    fn fill_region(&mut self, region: Ref<Region>) -> Result<(), Error> {
        let Region { address, pages, key, .. } = self.regions[region];
        (0..pages)
            .try_for_each(|page| self.map_fresh_page(address + page * PAGE, Mapping::data(key)).map(|_| ()))
    }

    /// Maps a zeroed frame, and gives its physical address.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn map_fresh_page(&mut self, address: u64, mapping: Mapping) -> Result<u64, Error> {
        mem::with(|memory| {
            let frame = memory.allocate_frame().map_err(|_| Error::OutOfMemory)?;
            let mapped = memory.map_page(address, frame, mapping);
            mapped.map(|()| frame).map_err(|_| {
                memory.release_frame(frame);
                Error::OutOfMemory
            })
        })
    }

    /// Unmaps a range and gives its frames back, after no CPU can reach them.
    pub(crate) fn unmap_range(&mut self, address: u64, pages: u64) {
        let mut frames: heapless::Vec<u64, 64> = heapless::Vec::new();
        let mut page = 0;
        while page < pages {
            let first = page;
            while page < pages && !frames.is_full() {
                if let Some(frame) = mem::with(|memory| memory.tables.unmap(address + page * PAGE)) {
                    let _ = frames.push(frame);
                }
                page += 1;
            }
            self.invalidate(address + first * PAGE, page - first);
            for &frame in &frames {
                // Text was read-only in the direct map; whoever gets the frame next writes it.
                self.protect_frame(frame, true).expect("the direct map was split when it was protected");
                mem::with(|memory| memory.release_frame(frame));
            }
            frames.clear();
        }
    }

    /// Makes a frame read-only or writable in the direct map, on every CPU.
    ///
    /// # Errors
    /// `OutOfMemory` if a large page has to be split and there is no frame for the table.
    pub(crate) fn protect_frame(&mut self, frame: u64, writable: bool) -> Result<(), Error> {
        let changed =
            mem::with(|memory| memory.protect_direct(frame, writable)).map_err(|_| Error::OutOfMemory)?;
        if let Some(address) = changed {
            self.invalidate(address, 1);
        }
        Ok(())
    }

    /// The last capability to a region has gone.
    pub(crate) fn destroy_region(&mut self, at: Ref<Region>) {
        let Some(region) = self.regions.remove(at) else { return };
        self.drop_global_openings(at);
        self.unlink_region(&region);
        self.unmap_range(region.address, region.pages);
        self.recompute_words();
        self.leave_class(region.member);
        if let Some(pooled) = region.pooled {
            self.pooled_keys[pooled].regions -= 1;
            self.drop_pooled_key_if_unused(pooled);
        }
        self.refund_lasting(region.payer, region.pages * PAGE);
    }

    /// A key goes back to the pool when neither a capability nor a region needs it.
    pub(crate) fn drop_pooled_key_if_unused(&mut self, at: Ref<PooledKey>) {
        let unused = self.pooled_keys.get(at).is_some_and(|pooled| pooled.refs == 0 && pooled.regions == 0);
        if let Some(pooled) = unused.then(|| self.pooled_keys.remove(at)).flatten() {
            self.release_key(pooled.key);
        }
    }

    /// Gives all pages of a region another key, on every CPU.
    pub(crate) fn retag(&mut self, region: Ref<Region>, key: Pkey) {
        let Region { address, pages, key: old, .. } = self.regions[region];
        if old == key {
            return;
        }
        mem::with(|memory| {
            for page in 0..pages {
                memory.tables.set_key(address + page * PAGE, key);
            }
        });
        self.regions[region].key = key;
        self.invalidate(address, pages);
    }

    /// Puts a region that only `owner` holds under a key of the pool.
    ///
    /// # Errors
    /// `Busy` if others hold it, or if the key is in use with other holders.
    pub(crate) fn rekey(
        &mut self,
        owner: Owner,
        region: Ref<Region>,
        pooled: Ref<PooledKey>,
    ) -> Result<(), Error> {
        let rights = self.caps.rights_to(owner, region.object(ObjectKind::Region)).access();
        let class = self.regions[region].member.class();
        if self.sharing.holders(class).any(|(holder, _)| holder != owner) {
            return Err(Error::Busy);
        }
        let mut member = self.sharing.join_pinned(owner, rights, self.pooled_keys[pooled].key)?;
        let key = match self.map_class(&mut member) {
            Ok(key) => key,
            Err(error) => {
                self.leave_class(member);
                return Err(error);
            }
        };
        self.pooled_keys[pooled].regions += 1;
        let old_member = core::mem::replace(&mut self.regions[region].member, member);
        let old_pooled = self.regions[region].pooled.replace(pooled);
        self.retag(region, key);
        self.recompute_words();
        self.leave_class(old_member);
        if let Some(old) = old_pooled {
            self.pooled_keys[old].regions -= 1;
            self.drop_pooled_key_if_unused(old);
        }
        Ok(())
    }

    /// These domains, each named once, hold a region with at most these rights from now on; the region may change its
    /// class and its key. Rights words follow.
    ///
    /// # Errors
    /// `KeysExhausted` if its new class needs a key and there is none; `Busy` for a region under a pooled key that
    /// others are under; `OutOfMemory`. Nothing was changed then.
    pub(crate) fn set_holders(
        &mut self,
        region: Ref<Region>,
        holders: &[(Owner, Rights)],
    ) -> Result<(), Error> {
        let member = &mut self.regions[region].member;
        let change = self.sharing.set_holders(member, holders, &mut self.keys)?;
        translations::note_keys(&self.keys);
        if let Some(key) = change.new_key {
            self.retag(region, key);
        }
        self.recompute_words();
        if let Some(key) = change.freed {
            self.release_key(key);
        }
        Ok(())
    }

    /// What a domain holds of a region has shrunk. Where that needs a key and there is none, the region is closed for
    /// everybody until one is free: rights are never kept for want of a key.
    pub(crate) fn narrow_holder(&mut self, region: Ref<Region>, owner: Owner) {
        let Some(books) = self.regions.get(region) else { return };
        let object = region.object(ObjectKind::Region);
        let rights = self.caps.rights_to(owner, object).access();
        if self.sharing.rights(books.member.class(), owner) <= rights {
            return;
        }
        self.narrow_openings(region, owner, rights);
        if self.set_holders(region, &[(owner, rights)]).is_ok() {
            return;
        }
        let address = self.regions[region].address;
        log::warn!(target: "pks", "region at {address:#x} is closed: its holders changed and no key is free for it");
        self.retag(region, Pkey::KERNEL);
        self.recompute_words();
        if let Err(error) = self.move_to_class_of(region, owner, rights) {
            // Not even room for the books: nobody holds it in them, so nobody can open it.
            log::error!(target: "pks", "region at {address:#x} stays closed: {error}");
        }
    }

    /// Takes a region that nobody reaches out of its class, and into the one of its holders as they are now, unmapped:
    /// it gets a key when it is opened next.
    fn move_to_class_of(&mut self, region: Ref<Region>, owner: Owner, rights: Rights) -> Result<(), Error> {
        let class = self.regions[region].member.class();
        let mut member = None;
        for number in 0..self.domains.capacity() {
            let holder = Owner(number);
            let held = if holder == owner { rights } else { self.sharing.rights(class, holder) };
            if held == Rights::NoAccess {
                continue;
            }
            match &mut member {
                None => member = Some(self.sharing.join(holder, held)?),
                // Unmapped: no page and no rights word has to follow.
                Some(joined) => {
                    if let Err(error) = self.sharing.set_holder(joined, holder, Some(held), &mut self.keys) {
                        member.into_iter().for_each(|member| self.leave_class(member));
                        return Err(error.into());
                    }
                }
            }
        }
        // Nobody is left who could open it, but capabilities without the right to read may be.
        let member = match member {
            Some(member) => member,
            None => self.sharing.join(owner, Rights::NoAccess)?,
        };
        let old = core::mem::replace(&mut self.regions[region].member, member);
        self.leave_class(old);
        if let Some(pooled) = self.regions[region].pooled.take() {
            self.pooled_keys[pooled].regions -= 1;
            self.drop_pooled_key_if_unused(pooled);
        }
        Ok(())
    }
}
