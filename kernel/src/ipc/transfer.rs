//! Capabilities in messages.

use crate::domain::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::abi::message::{Info, MAX_TRANSFERS, Transfer, TransferMode, WORDS};
use libpks::cap::{CapRights, Handle, Loan, Owner};

/// What has been done for one capability of a message, so that it can be undone.
enum Done {
    Copied(Handle),
    Moved(Handle),
    Lent(Loan),
}

impl Kernel {
    /// Carries the capabilities of a message over and puts the receiver's handles into the words. All or none.
    ///
    /// # Errors
    /// Those of the capability table for the first that could not be carried; `BadMessage`.
    pub(super) fn transfer(
        &mut self,
        info: Info,
        words: &mut [u64; WORDS],
        from: Ref<Domain>,
        to: Ref<Domain>,
    ) -> Result<heapless::Vec<Loan, MAX_TRANSFERS>, Error> {
        let (from, to) = (Owner(from.number()), Owner(to.number()));
        let mut done: heapless::Vec<Done, MAX_TRANSFERS> = heapless::Vec::new();
        for n in 0..info.capabilities() {
            let transfer = info.transfer(n).ok_or(Error::BadMessage);
            let step = transfer.and_then(|transfer| self.carry(transfer, words[Transfer::word(n)], from, to));
            match step {
                Ok((handle, step)) => {
                    words[Transfer::word(n)] = handle.raw();
                    let _ = done.push(step);
                }
                Err(error) => {
                    self.undo(done, from, to);
                    return Err(error);
                }
            }
        }
        Ok(done
            .into_iter()
            .filter_map(|step| if let Done::Lent(loan) = step { Some(loan) } else { None })
            .collect())
    }

    fn carry(
        &mut self,
        transfer: Transfer,
        handle: u64,
        from: Owner,
        to: Owner,
    ) -> Result<(Handle, Done), Error> {
        let held = self.caps.lookup(from, Handle::from_raw(handle))?.rights;
        let rights = if transfer.read_only { held - CapRights::WRITE } else { held };
        match transfer.mode {
            TransferMode::Copy => self.mint(from, handle, to, rights, 0).map(|new| (new, Done::Copied(new))),
            TransferMode::Move if transfer.read_only => Err(Error::BadMessage),
            TransferMode::Move => self.hand_over(from, handle, to).map(|new| (new, Done::Moved(new))),
            TransferMode::Lend => {
                self.lend(from, handle, to, rights).map(|(new, loan)| (new, Done::Lent(loan)))
            }
        }
    }

    fn undo(&mut self, done: heapless::Vec<Done, MAX_TRANSFERS>, from: Owner, to: Owner) {
        for step in done {
            // Each was possible in the other direction a moment ago, so none of this can fail.
            let undone = match step {
                Done::Copied(handle) => self.delete_cap(to, handle.raw()),
                Done::Moved(handle) => self.hand_over(to, handle.raw(), from).map(|_| ()),
                Done::Lent(loan) => {
                    self.end_loan(loan);
                    Ok(())
                }
            };
            debug_assert!(undone.is_ok());
        }
    }
}
