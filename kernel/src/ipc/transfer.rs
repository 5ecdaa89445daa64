//! Capabilities in messages.

use crate::domain::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::abi::message::{Info, MAX_TRANSFERS, Transfer, TransferMode, WORDS};
use libpks::cap::{CapError, CapRights, Capability, Handle, Loan, Owner};

/// What has been done for one capability of a message, so that it can be undone.
enum Done {
    Copied(Handle),
    Moved(Handle),
    Lent(Loan),
}

/// The capabilities of a message and what becomes of them, in its order.
type Offers = heapless::Vec<(Transfer, u64), MAX_TRANSFERS>;

impl Kernel {
    /// Carries the capabilities of a message over and puts the receiver's handles into the words. All or none: what
    /// can be refused is refused before anything is handed over, because a capability that came back would have
    /// another handle than its holder knows.
    ///
    /// # Errors
    /// Those of the capability table for the first that could not be carried; `BadMessage`, also for a capability that
    /// is to be handed over and is named twice.
    pub(super) fn transfer(
        &mut self,
        info: Info,
        words: &mut [u64; WORDS],
        from: Ref<Domain>,
        to: Ref<Domain>,
    ) -> Result<heapless::Vec<Loan, MAX_TRANSFERS>, Error> {
        let (from, to) = (Owner(from.number()), Owner(to.number()));
        let offers = self.check_offers(info, words, from, to)?;
        self.widen_for_moves(&offers, from, to)?;
        let mut done: heapless::Vec<Done, MAX_TRANSFERS> = heapless::Vec::new();
        let is_move = |transfer: Transfer| transfer.mode == TransferMode::Move;
        // Those that are handed over come last.
        for moves in [false, true] {
            for (n, &(transfer, handle)) in offers.iter().enumerate() {
                if is_move(transfer) != moves {
                    continue;
                }
                match self.carry(transfer, handle, from, to) {
                    Ok((handle, step)) => {
                        words[Transfer::word(n)] = handle.raw();
                        let _ = done.push(step);
                    }
                    Err(error) => {
                        self.undo(done, from, to);
                        self.narrow_moves(&offers, from, to);
                        return Err(error);
                    }
                }
            }
        }
        Ok(done
            .into_iter()
            .filter_map(|step| if let Done::Lent(loan) = step { Some(loan) } else { None })
            .collect())
    }

    /// The offers of a message, each of which its sender may make, and for which the receiver has room.
    fn check_offers(
        &self,
        info: Info,
        words: &[u64; WORDS],
        from: Owner,
        to: Owner,
    ) -> Result<Offers, Error> {
        let mut offers = Offers::new();
        for n in 0..info.capabilities() {
            let offer = (info.transfer(n).ok_or(Error::BadMessage)?, words[Transfer::word(n)]);
            offers.push(offer).map_err(|_| Error::BadMessage)?;
        }
        for (n, &(transfer, handle)) in offers.iter().enumerate() {
            let held = self.caps.lookup(from, Handle::from_raw(handle))?.rights;
            let lends = transfer.mode == TransferMode::Lend;
            if !lends && self.caps.is_lent(from, Handle::from_raw(handle))? {
                return Err(CapError::Lent.into());
            }
            if !held.contains(CapRights::GRANT) && (lends || from != to) {
                return Err(Error::MissingRights);
            }
            let moves = transfer.mode == TransferMode::Move;
            let twice = offers.iter().enumerate().any(|(other, offer)| other != n && offer.1 == handle);
            if moves && (transfer.read_only || twice) {
                return Err(Error::BadMessage);
            }
        }
        self.caps.check_room(to, offers.len() as u32)?;
        Ok(offers)
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
            TransferMode::Move => self.hand_over(from, handle, to).map(|new| (new, Done::Moved(new))),
            TransferMode::Lend => {
                self.lend(from, handle, to, rights).map(|(new, loan)| (new, Done::Lent(loan)))
            }
        }
    }

    /// Makes the receiver a holder of every region that is handed over, so that handing over needs no key more.
    fn widen_for_moves(&mut self, offers: &Offers, from: Owner, to: Owner) -> Result<(), Error> {
        for &(_, handle) in offers.iter().filter(|(transfer, _)| transfer.mode == TransferMode::Move) {
            let capability = *self.caps.lookup(from, Handle::from_raw(handle))?;
            if let Err(error) = self.widen(capability.object, to, capability.rights) {
                self.narrow_moves(offers, from, to);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes back what [`Kernel::widen_for_moves`] did.
    fn narrow_moves(&mut self, offers: &Offers, from: Owner, to: Owner) {
        for &(_, handle) in offers.iter().filter(|(transfer, _)| transfer.mode == TransferMode::Move) {
            if let Ok(&Capability { object, .. }) = self.caps.lookup(from, Handle::from_raw(handle)) {
                self.narrow(object, to);
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
