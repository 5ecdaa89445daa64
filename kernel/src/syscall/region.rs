//! Operations on regions, keys and the heap.

use super::{Answer, Outcome, Request, misrouted};
use crate::arch::protection;
use crate::mem::PAGE;
use crate::object::Ref;
use crate::region::{PooledKey, Region};
use crate::state::Kernel;
use libpks::abi::{Error, Syscall};
use libpks::cap::{CapRights, ObjectKind};
use libpks::pkey::{Pkey, Rights};

/// The rights that a word names: 0 none, 1 read-only, 2 read-write.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn rights_from(word: u64) -> Result<Rights, Error> {
    match word {
        0 => Ok(Rights::NoAccess),
        1 => Ok(Rights::ReadOnly),
        2 => Ok(Rights::ReadWrite),
        _ => Err(Error::InvalidArgument),
    }
}

impl Kernel {
    pub(super) fn operate_region(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [first, second, ..] = request.words;
        let owner = request.owner();
        match syscall {
            Syscall::RegionCreate => {
                let pooled = match second {
                    0 => None,
                    key => Some(self.object::<PooledKey>(owner, key, ObjectKind::Key, CapRights::MANAGE)?),
                };
                let (handle, address) = self.create_region(request.domain, first, pooled)?;
                Ok(Answer::two(handle.raw(), address))
            }
            Syscall::RegionInfo => {
                let region: Ref<Region> =
                    self.object(owner, first, ObjectKind::Region, CapRights::empty())?;
                let facet = self.facet_for(region, owner);
                let key = facet.map_or(Pkey::KERNEL, |facet| self.facets[facet].key);
                let live = self.seat(request.thread).word.rights(key);
                let Region { address, pages, .. } = self.regions[region];
                let key = u64::from(key.index());
                Ok(Answer::Words([address, pages * PAGE, key, live as u64, 0, 0, 0, 0]))
            }
            Syscall::RegionOpen => {
                let rights = rights_from(second)?;
                let region = self.region_for(owner, first, rights)?;
                let token = self.open_region(request.thread, region, rights)?;
                let Region { address, pages, .. } = self.regions[region];
                Ok(Answer::Words([token, address, pages * PAGE, 0, 0, 0, 0, 0]))
            }
            Syscall::RegionClose => self.close_region(request.thread, first).map(|()| Answer::NOTHING),
            Syscall::RegionOpenGlobal => {
                let rights = rights_from(second)?;
                let region = self.region_for(owner, first, rights)?;
                self.open_globally(request.domain, region, rights).map(|()| Answer::NOTHING)
            }
            Syscall::RegionRekey => {
                let region: Ref<Region> = self.object(owner, first, ObjectKind::Region, CapRights::MANAGE)?;
                let key: Ref<PooledKey> = self.object(owner, second, ObjectKind::Key, CapRights::MANAGE)?;
                self.rekey(owner, region, key).map(|()| Answer::NOTHING)
            }
            Syscall::HeapGrow => self.grow_heap(request.domain, first).map(Answer::one),
            Syscall::KeyAllocate => {
                self.require(owner, first, ObjectKind::KeyPool, CapRights::MANAGE)?;
                match second {
                    0 => {}
                    1 if protection::in_force().has_roots() => return Err(Error::KeysUnsupported),
                    1 => {}
                    _ => return Err(Error::InvalidArgument),
                }
                let view = self.view_of(owner).ok_or(Error::Gone)?;
                let key = self.take_key(view)?;
                let made = self.pooled_keys.insert(PooledKey { view, key, refs: 1, regions: 0 });
                let pooled = made.map_err(|error| {
                    self.release_key(view, key);
                    Error::from(error)
                })?;
                let rights = CapRights::READ | CapRights::GRANT | CapRights::MANAGE;
                let handle = self.give_part(owner, first, pooled.object(ObjectKind::Key), rights)?;
                Ok(Answer::two(handle.raw(), u64::from(key.index())))
            }
            _ => misrouted(),
        }
    }
}
