//! Capabilities in messages.

use crate::domain::Domain;
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::abi::message::{Info, MAX_TRANSFERS, Transfer, TransferMode, WORDS};
use libpks::cap::{CapError, CapRights, Handle, Loan, Owner};

/// What has been done for one capability of a message, so that it can be undone.
enum Done {
    Copied(Handle),
    Lent(Loan),
}

/// The capabilities of a message and what becomes of them, in its order.
type Offers = heapless::Vec<(Transfer, u64), MAX_TRANSFERS>;

impl Kernel {
    /// Carries the capabilities of a message over and puts the receiver's handles into the words. All or none: those
    /// that are handed over come last and all at one time, because a capability that came back would have another
    /// handle than its holder knows.
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
        let mut done: heapless::Vec<Done, MAX_TRANSFERS> = heapless::Vec::new();
        for (n, &(transfer, handle)) in offers.iter().enumerate().filter(|(_, offer)| !is_move(offer)) {
            match self.derive(transfer, handle, from, to) {
                Ok((handle, step)) => {
                    words[Transfer::word(n)] = handle.raw();
                    let _ = done.push(step);
                }
                Err(error) => {
                    self.undo(done, to);
                    return Err(error);
                }
            }
        }
        let moves = offers.iter().enumerate().filter(|(_, offer)| is_move(offer));
        match self.hand_over(&moves.clone().map(|(_, offer)| Handle::from_raw(offer.1)).collect(), from, to) {
            Ok(moved) => moves.zip(moved).for_each(|((n, _), new)| words[Transfer::word(n)] = new.raw()),
            Err(error) => {
                self.undo(done, to);
                return Err(error);
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

    /// Copies or lends a capability.
    fn derive(
        &mut self,
        transfer: Transfer,
        handle: u64,
        from: Owner,
        to: Owner,
    ) -> Result<(Handle, Done), Error> {
        let held = self.caps.lookup(from, Handle::from_raw(handle))?.rights;
        let rights = if transfer.read_only { held - CapRights::WRITE } else { held };
        match transfer.mode {
            TransferMode::Lend => {
                self.lend(from, handle, to, rights).map(|(new, loan)| (new, Done::Lent(loan)))
            }
            TransferMode::Copy => self.mint(from, handle, to, rights, 0).map(|new| (new, Done::Copied(new))),
            TransferMode::Move => Err(Error::BadMessage),
        }
    }

    fn undo(&mut self, done: heapless::Vec<Done, MAX_TRANSFERS>, to: Owner) {
        for step in done {
            match step {
                Done::Copied(handle) => {
                    let undone = self.delete_cap(to, handle.raw());
                    debug_assert!(undone.is_ok());
                }
                Done::Lent(loan) => self.end_loan(loan),
            }
        }
    }

    /// Drops what a message that reaches nobody was to hand over: its sender has given it away.
    pub(super) fn drop_moves(&mut self, info: Info, words: &[u64; WORDS], from: Ref<Domain>) {
        for n in 0..info.capabilities() {
            if info.transfer(n).is_some_and(|transfer| transfer.mode == TransferMode::Move) {
                // What its sender does not hold cannot be dropped, and need not be.
                let _ = self.delete_cap(Owner(from.number()), words[Transfer::word(n)]);
            }
        }
    }
}

fn is_move(offer: &(Transfer, u64)) -> bool {
    offer.0.mode == TransferMode::Move
}
