//! Regions: memory at one address for everybody, in each view under the key of its sharing class there ([`facet`]); and
//! the keys that were taken from a pool.

mod facet;

pub(crate) use facet::Facet;

use crate::arch::protection;
use crate::domain::{Domain, Payer};
use crate::mem::{self, Mapping, NARROW_REGIONS_BYTES, PAGE, REGION_ALIGN, tables_of};
use crate::object::Ref;
use crate::state::Kernel;
use crate::view::View;
use libpks::abi::{Error, layout};
use libpks::cap::{CapRights, Capability, Handle, ObjectKind, Owner};
use libpks::pkey::Pkey;

/// Memory at one address for everybody who holds it.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) address: u64,
    pub(crate) pages: u64,
    /// Who pays for it.
    pub(crate) payer: Payer,
    /// Its neighbours by address.
    previous: Option<Ref<Region>>,
    next: Option<Ref<Region>>,
    /// What the views show of it whose domains hold it: the first of a list.
    facets: Option<Ref<Facet>>,
    /// How many domains have it open for all of their threads.
    pub(crate) opened_for_all: u32,
    /// Capabilities that name it.
    pub(crate) refs: u32,
}

/// What a region costs its maker, in bytes: its pages; where it has tables of its own, these too, in the kernel's root and in
/// the first view that shows it.
fn cost_of(pages: u64) -> u64 {
    let tables = if protection::in_force().has_roots() { 2 * tables_of(pages) } else { 0 };
    (pages + tables) * PAGE
}

/// A key that was taken from the pool of a view.
#[derive(Debug)]
pub(crate) struct PooledKey {
    pub(crate) view: Ref<View>,
    pub(crate) key: Pkey,
    /// Capabilities that name it.
    pub(crate) refs: u32,
    /// Regions under it in its view. The key goes back when both are 0.
    pub(crate) regions: u32,
}

impl Kernel {
    /// Makes a region of whole pages, zeroed and closed for all. `pooled`: under this key and no other.
    ///
    /// # Errors
    /// `InvalidArgument` for no bytes or too many, or for a key of another view, `LimitReached`, `QuotaExceeded`, `KeysExhausted`, `OutOfMemory`,
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
        let paid = self.charge_lasting(payer, cost_of(pages))?;
        let books = Region {
            address,
            pages,
            payer: paid,
            previous: None,
            next: None,
            facets: None,
            opened_for_all: 0,
            refs: 1,
        };
        let region = self.regions.insert(books).inspect_err(|_| self.refund_lasting(paid, cost_of(pages)))?;
        self.link_region(region, previous);
        let owner = Owner(payer.number());
        let rights = CapRights::READ | CapRights::WRITE | CapRights::GRANT | CapRights::MANAGE;
        let capability = Capability { object: region.object(ObjectKind::Region), rights, badge: 0 };
        let filled = self.fill_region(region).and_then(|()| self.show_to_maker(region, owner, pooled));
        let handle = filled.and_then(|()| Ok(self.caps.insert_root(owner, capability)?));
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
        let roots = protection::in_force().has_roots();
        let (align, area) =
            if roots { (REGION_ALIGN, NARROW_REGIONS_BYTES) } else { (PAGE, layout::REGIONS_BYTES) };
        let spanned = |pages: u64| ((pages + 1) * PAGE).next_multiple_of(align);
        let bytes = spanned(pages);
        let (mut previous, mut address, mut next) = (None, layout::REGIONS_BASE, self.first_region);
        while let Some(at) = next.filter(|&at| self.regions[at].address - address < bytes) {
            let Region { address: start, pages, next: behind, .. } = self.regions[at];
            (previous, address, next) = (Some(at), start + spanned(pages), behind);
        }
        (address + bytes <= layout::REGIONS_BASE + area).then_some((previous, address))
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

    /// The region that an address lies in.
    pub(crate) fn region_at(&self, address: u64) -> Option<Ref<Region>> {
        let mut regions = (0..self.regions.capacity()).filter_map(|number| self.regions.at_number(number));
        regions.find(|&at| {
            let Region { address: start, pages, .. } = self.regions[at];
            (start..start + pages * PAGE).contains(&address)
        })
    }

    /// Backs a region with frames, for the kernel alone.
    fn fill_region(&mut self, region: Ref<Region>) -> Result<(), Error> {
        let Region { address, pages, .. } = self.regions[region];
        let mapping = Mapping::data(Pkey::KERNEL);
        (0..pages).try_for_each(|page| self.map_fresh_page(address + page * PAGE, mapping).map(|_| ()))
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
        if self.regions.get(at).is_none() {
            return;
        }
        self.drop_global_openings(at);
        while let Some(facet) = self.regions[at].facets {
            self.drop_facet(at, facet);
        }
        let Some(region) = self.regions.remove(at) else { return };
        self.unlink_region(&region);
        self.unmap_range(region.address, region.pages);
        if protection::in_force().has_roots() {
            mem::with(|memory| memory.release_tables(None, region.address, region.pages));
        }
        self.refund_lasting(region.payer, cost_of(region.pages));
    }

    /// A key goes back to the pool when neither a capability nor a region needs it.
    pub(crate) fn drop_pooled_key_if_unused(&mut self, at: Ref<PooledKey>) {
        let unused = self.pooled_keys.get(at).is_some_and(|pooled| pooled.refs == 0 && pooled.regions == 0);
        if let Some(pooled) = unused.then(|| self.pooled_keys.remove(at)).flatten() {
            self.release_key(pooled.view, pooled.key);
        }
    }
}
