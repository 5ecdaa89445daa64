//! Quotas of memory and of CPU time: who pays for what, and to whom it is given back.

use super::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::budget::Share;

/// Memory and CPU time to give to domains, as a capability names it.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) free_bytes: u64,
    /// What the budgets of further domains may be of a CPU, all together.
    pub(crate) free_share: Share,
}

impl Quota {
    /// Nothing.
    pub(crate) const EMPTY: Quota = Quota { free_bytes: 0, free_share: Share::NONE };
}

/// Who pays for an object that may outlive its maker: the maker while it is there, then whoever endowed it. So what a
/// dead domain left with others is not memory that nobody accounts for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer {
    pub(crate) domain: Ref<Domain>,
    quota: Ref<Quota>,
}

impl Kernel {
    /// Takes bytes from a domain's quota, for what goes with the domain at the latest.
    ///
    /// # Errors
    /// `QuotaExceeded`; nothing was taken then.
    pub(crate) fn charge(&mut self, domain: Ref<Domain>, bytes: u64) -> Result<(), Error> {
        let books = self.domains.get_mut(domain).ok_or(Error::Gone)?;
        let used = books.used_bytes.checked_add(bytes).filter(|&used| used <= books.quota_bytes);
        books.used_bytes = used.ok_or(Error::QuotaExceeded)?;
        Ok(())
    }

    /// Gives back what [`Kernel::charge`] took, if the domain is still there.
    pub(crate) fn refund(&mut self, domain: Ref<Domain>, bytes: u64) {
        if let Some(books) = self.domains.get_mut(domain) {
            books.used_bytes = books.used_bytes.saturating_sub(bytes);
        }
    }

    /// Takes bytes from a domain's quota, for an object that may outlive it.
    ///
    /// # Errors
    /// `QuotaExceeded`; nothing was taken then.
    pub(crate) fn charge_lasting(&mut self, domain: Ref<Domain>, bytes: u64) -> Result<Payer, Error> {
        self.charge(domain, bytes)?;
        let books = &mut self.domains[domain];
        books.lasting_bytes += bytes;
        Ok(Payer { domain, quota: books.quota })
    }

    /// Gives back what [`Kernel::charge_lasting`] took.
    pub(crate) fn refund_lasting(&mut self, payer: Payer, bytes: u64) {
        match self.domains.get_mut(payer.domain) {
            Some(books) => {
                books.used_bytes = books.used_bytes.saturating_sub(bytes);
                books.lasting_bytes = books.lasting_bytes.saturating_sub(bytes);
            }
            None => self.return_quota(payer.quota, bytes),
        }
    }

    /// Takes bytes from a budget.
    ///
    /// # Errors
    /// `Gone`, `QuotaExceeded`.
    pub(super) fn take_quota(&mut self, quota: Ref<Quota>, bytes: u64) -> Result<(), Error> {
        let budget = self.quotas.get_mut(quota).ok_or(Error::Gone)?;
        budget.free_bytes = budget.free_bytes.checked_sub(bytes).ok_or(Error::QuotaExceeded)?;
        Ok(())
    }

    /// Gives bytes back to a budget.
    pub(super) fn return_quota(&mut self, quota: Ref<Quota>, bytes: u64) {
        if let Some(budget) = self.quotas.get_mut(quota) {
            budget.free_bytes += bytes;
        }
    }

    /// Takes a part of a CPU's time from a domain's quota.
    ///
    /// # Errors
    /// `CpuExceeded`; nothing was taken then.
    pub(super) fn take_share(&mut self, domain: Ref<Domain>, share: Share) -> Result<(), Error> {
        let quota = &mut self.quotas[self.domains[domain].quota];
        quota.free_share = quota.free_share.minus(share).ok_or(Error::CpuExceeded)?;
        self.domains[domain].share = share;
        Ok(())
    }

    /// Gives back what [`Kernel::take_share`] took: who does not run needs no time.
    pub(super) fn return_share(&mut self, domain: Ref<Domain>) {
        let books = &mut self.domains[domain];
        let share = core::mem::take(&mut books.share);
        if let Some(quota) = self.quotas.get_mut(books.quota) {
            quota.free_share = quota.free_share.plus(share).unwrap_or(Share::TOTAL);
        }
    }
}
