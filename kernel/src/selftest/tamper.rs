//! Damage to the kernel's own state, behind the back of its books: so that a test can see whether its checks bite.

use super::word_from;
use crate::arch::protection;
use crate::mem::is_region;
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use libpks::abi::Error;
use libpks::pkey::{Pkey, Rights};

impl Kernel {
    /// See [`libpks::abi::selftest::SelfTestOp::SetLeafKey`].
    pub(super) fn set_leaf_key(
        &mut self,
        thread: Ref<Thread>,
        address: u64,
        key: u64,
    ) -> Result<[u64; 8], Error> {
        let key = u8::try_from(key).ok().and_then(Pkey::new).ok_or(Error::InvalidArgument)?;
        if !is_region(address) {
            return Err(Error::InvalidArgument);
        }
        // A root judges a region by its first page.
        let pages = self.region_at(address).map_or(0, |region| self.regions[region].pages);
        if protection::in_force().has_roots() && pages != 1 {
            return Err(Error::Unsupported);
        }
        let view = self.view_of(self.owner(thread)).ok_or(Error::NotFound)?;
        let tables = &mut self.views[view].tables;
        let old = tables.walk(address).ok_or(Error::NotFound)?.key();
        tables.set_key(address, 1, key);
        self.invalidate(address, 1);
        Ok([u64::from(old.index()), 0, 0, 0, 0, 0, 0, 0])
    }

    /// See [`libpks::abi::selftest::SelfTestOp::SetWord`].
    pub(super) fn set_word(&mut self, thread: Ref<Thread>, word: u64) -> Result<[u64; 8], Error> {
        let word = word_from(word)?;
        if word.rights(Pkey::KERNEL) != Rights::NoAccess {
            return Err(Error::InvalidArgument);
        }
        let seat = self.seat_mut(thread);
        let old = core::mem::replace(&mut seat.word, word);
        Ok([u64::from(old.raw()), 0, 0, 0, 0, 0, 0, 0])
    }
}
