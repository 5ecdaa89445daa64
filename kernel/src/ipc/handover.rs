//! Capabilities that become another domain's.

use crate::object::Ref;
use crate::region::Region;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::abi::message::MAX_TRANSFERS;
use libpks::cap::{CapRights, Handle, ObjectId, ObjectKind, Owner};
use libpks::pkey::Rights;

/// Capabilities of one message.
pub(super) type Handles = heapless::Vec<Handle, MAX_TRANSFERS>;
/// A region whose holders were changed, and what the two had of it before.
type Shift = (Ref<Region>, [(Owner, Rights); 2]);
/// Those of one message.
type Shifted = heapless::Vec<Shift, MAX_TRANSFERS>;

impl Kernel {
    /// Hands capabilities over, all or none, and gives the receiver's handles. A region goes from its holders as they
    /// are to those that it has in the end: it needs no key for a moment in which both domains hold it.
    ///
    /// # Errors
    /// Those of the capability table; `KeysExhausted` if no key is left for what comes of it, `Busy` for one of several
    /// regions under a key of the pool.
    pub(super) fn hand_over(&mut self, moves: &Handles, from: Owner, to: Owner) -> Result<Handles, Error> {
        for &handle in moves {
            self.caps.check_move(from, handle, to)?;
        }
        let mut handed = Handles::new();
        if from == to {
            return Ok(moves.clone());
        }
        self.shift_holders(moves, from, to)?;
        for &handle in moves {
            let mut object = None;
            let moved =
                self.caps.move_to(from, handle, to, |removal| object = Some(removal.capability.object));
            // Checked above, and there is room: `Kernel::check_offers`.
            debug_assert!(moved.is_ok());
            let _ = handed.push(moved?);
            object.into_iter().for_each(|object| self.changed_hands(object, from, to));
        }
        Ok(handed)
    }

    /// Makes the receiver a holder of every region that it gets, in its sender's place.
    fn shift_holders(&mut self, moves: &Handles, from: Owner, to: Owner) -> Result<(), Error> {
        let mut shifted = Shifted::new();
        for &handle in moves {
            let outcome = self.caps.lookup(from, handle).map(|it| it.object).map_err(Error::from);
            let outcome = outcome.and_then(|object| self.shift_holder(object, moves, from, to));
            match outcome {
                Ok(None) => {}
                Ok(Some(before)) => {
                    let _ = shifted.push(before);
                }
                Err(error) => {
                    // Back the way that it came, over books that there was room for a moment ago.
                    for (region, before) in shifted.into_iter().rev() {
                        let restored = self.set_holders(region, &before);
                        debug_assert!(restored.is_ok());
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn shift_holder(
        &mut self,
        object: ObjectId,
        moves: &Handles,
        from: Owner,
        to: Owner,
    ) -> Result<Option<Shift>, Error> {
        if object.kind != ObjectKind::Region {
            return Ok(None);
        }
        let region: Ref<Region> = Ref::of(object);
        if self.regions.get(region).is_none() {
            return Err(Error::Gone);
        }
        let before = [from, to].map(|owner| (owner, self.held(region, owner)));
        let keeps = self.caps.rights_without(from, object, moves);
        let moved = moves.iter().filter_map(|&handle| self.caps.lookup(from, handle).ok());
        let moved =
            moved.filter(|it| it.object == object).fold(CapRights::empty(), |all, it| all | it.rights);
        let gains = self.caps.rights_to(to, object) | moved;
        self.set_holders(region, &[(from, keeps.access()), (to, gains.access())])?;
        Ok(Some((region, before)))
    }

    /// A capability to this object has gone from one domain to another.
    fn changed_hands(&mut self, object: ObjectId, from: Owner, to: Owner) {
        if object.kind == ObjectKind::Region {
            let keeps = self.caps.rights_to(from, object).access();
            self.narrow_openings(Ref::of(object), from, keeps);
        }
        for owner in [from, to] {
            self.narrow(object, owner);
        }
    }
}
