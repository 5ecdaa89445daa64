//! Capabilities in the kernel: the table of libpks, and what its changes mean for objects and rights words.

use crate::domain::Domain;
use crate::object::Ref;
use crate::region::Region;
use crate::state::Kernel;
use heapless::Vec;
use libpks::abi::Error;
use libpks::cap::{
    CapError, CapRights, Capability, Handle, Loan, ObjectId, ObjectKind, Owner, Progress, Removal,
};
use libpks::pkey::Rights;

/// Capabilities removed in one step, before their objects are looked after.
const STEP: u32 = 32;

/// What was removed in a step.
type Removed = Vec<(Owner, Capability), { STEP as usize }>;

/// Takes down a removal. A capability that was handed over is no reference less, but its old holder may hold less.
fn note(removed: &mut Removed) -> impl FnMut(Removal<'_>) {
    |removal| {
        removed.push((removal.owner, *removal.capability)).expect("a step removes no more than its budget")
    }
}

impl Kernel {
    /// What a domain holds as a handle, if it names this kind with these rights.
    ///
    /// # Errors
    /// `NoSuchCapability`, `WrongObject`, `MissingRights`.
    pub(crate) fn require(
        &self,
        owner: Owner,
        handle: u64,
        kind: ObjectKind,
        rights: CapRights,
    ) -> Result<Capability, Error> {
        Ok(*self.caps.require(owner, Handle::from_raw(handle), kind, rights)?)
    }

    /// The object of type `T` that a handle names.
    ///
    /// # Errors
    /// As [`Kernel::require`].
    pub(crate) fn object<T>(
        &self,
        owner: Owner,
        handle: u64,
        kind: ObjectKind,
        rights: CapRights,
    ) -> Result<Ref<T>, Error> {
        Ok(Ref::of(self.require(owner, handle, kind, rights)?.object))
    }

    /// Gives the first capability to a new object, whose count of references is 1 already.
    ///
    /// # Errors
    /// `LimitReached`, `OutOfMemory`; the object is then destroyed.
    pub(crate) fn give_root(
        &mut self,
        owner: Owner,
        object: ObjectId,
        rights: CapRights,
    ) -> Result<Handle, Error> {
        let inserted = self.caps.insert_root(owner, Capability { object, rights, badge: 0 });
        inserted.map_err(|error| {
            self.drop_reference(object);
            error.into()
        })
    }

    /// Gives the first capability to a new object that is a part of another: it goes when `part_of` is revoked, and has
    /// no rights that `part_of` lacks.
    ///
    /// # Errors
    /// As [`Kernel::give_root`].
    pub(crate) fn give_part(
        &mut self,
        owner: Owner,
        part_of: u64,
        object: ObjectId,
        rights: CapRights,
    ) -> Result<Handle, Error> {
        let part_of = Handle::from_raw(part_of);
        let whole = self.caps.lookup(owner, part_of).map_or(CapRights::empty(), |whole| whole.rights);
        let capability = Capability { object, rights: rights & whole, badge: 0 };
        let inserted = self.caps.insert_below(owner, part_of, capability);
        inserted.map_err(|error| {
            self.drop_reference(object);
            error.into()
        })
    }

    /// Derives a capability for a domain. If it is one to a region, the region's holders grow first, so that it never
    /// comes without the key for it.
    ///
    /// # Errors
    /// Those of the capability table, and `KeysExhausted`.
    pub(crate) fn mint(
        &mut self,
        from: Owner,
        handle: u64,
        to: Owner,
        rights: CapRights,
        badge: u64,
    ) -> Result<Handle, Error> {
        let handle = Handle::from_raw(handle);
        let source = *self.caps.lookup(from, handle)?;
        self.widen(source.object, to, rights & source.rights)?;
        let minted = self.caps.mint(from, handle, to, rights, badge);
        self.settle(source.object, to, &minted);
        Ok(minted?)
    }

    /// Lends a capability.
    ///
    /// # Errors
    /// As [`Kernel::mint`].
    pub(crate) fn lend(
        &mut self,
        from: Owner,
        handle: u64,
        to: Owner,
        rights: CapRights,
    ) -> Result<(Handle, Loan), Error> {
        let handle = Handle::from_raw(handle);
        let source = *self.caps.lookup(from, handle)?;
        self.widen(source.object, to, rights & source.rights)?;
        let lent = self.caps.lend(from, handle, to, rights);
        self.settle(source.object, to, &lent);
        Ok(lent?)
    }

    /// Ends a loan: what was lent, and all that was lent on from it.
    pub(crate) fn end_loan(&mut self, loan: Loan) {
        loop {
            let mut removed = Removed::new();
            let progress = self.caps.end_loan_step(loan, STEP, note(&mut removed));
            self.look_after(&removed);
            if progress == Progress::Done {
                return;
            }
        }
    }

    /// Deletes a capability.
    ///
    /// # Errors
    /// `NoSuchCapability`.
    pub(crate) fn delete_cap(&mut self, owner: Owner, handle: u64) -> Result<(), Error> {
        let mut removed = Removed::new();
        self.caps.delete(owner, Handle::from_raw(handle), note(&mut removed))?;
        self.look_after(&removed);
        Ok(())
    }

    /// One step of a revoke. When it is done, no recorded rights word and no CPU has anything through what was derived.
    ///
    /// # Errors
    /// `NoSuchCapability`.
    pub(crate) fn revoke_step(&mut self, owner: Owner, handle: u64) -> Result<Progress, Error> {
        let mut removed = Removed::new();
        let progress = self.caps.revoke_step(owner, Handle::from_raw(handle), STEP, note(&mut removed));
        self.look_after(&removed);
        Ok(progress?)
    }

    /// Takes everything from a domain that has ended.
    pub(crate) fn empty_space(&mut self, owner: Owner) {
        loop {
            let mut removed = Removed::new();
            let progress = self.caps.delete_space_step(owner, STEP, note(&mut removed));
            self.look_after(&removed);
            if progress != Ok(Progress::More) {
                return;
            }
        }
    }

    /// Before a domain gets a capability to a region: it becomes a holder.
    fn widen(&mut self, object: ObjectId, to: Owner, rights: CapRights) -> Result<(), Error> {
        if object.kind != ObjectKind::Region {
            return Ok(());
        }
        let region: Ref<Region> = Ref::of(object);
        if self.regions.get(region).is_none() {
            return Err(Error::Gone);
        }
        let held = self.held(region, to);
        let wanted = (self.caps.rights_to(to, object) | rights).access();
        if wanted > held { self.set_holders(region, &[(to, wanted)]) } else { Ok(()) }
    }

    /// After a domain may have got a capability: counts it, or takes back what [`Kernel::widen`] did.
    fn settle<R>(&mut self, object: ObjectId, to: Owner, outcome: &Result<R, CapError>) {
        match outcome {
            Ok(_) => {
                if let Some(refs) = self.references(object) {
                    *refs += 1;
                }
            }
            Err(_) => self.narrow(object, to),
        }
    }

    /// After a domain may have lost a capability.
    pub(crate) fn narrow(&mut self, object: ObjectId, owner: Owner) {
        match object.kind {
            ObjectKind::Region => self.narrow_holder(Ref::of(object), owner),
            ObjectKind::IrqLine => self.narrow_line(object, owner),
            ObjectKind::Notification => self.narrow_waiters(Ref::of(object), owner),
            ObjectKind::Endpoint => self.narrow_server(Ref::of(object), owner),
            ObjectKind::Thread => self.narrow_fault_hearer(Ref::of(object), owner),
            ObjectKind::Domain => self.narrow_end_hearer(Ref::of(object), owner),
            ObjectKind::KernelLog => self.narrow_log_drainer(object, owner),
            _ => {}
        }
    }

    /// What removals mean: objects go that nobody names any more, and rights to those that stay shrink.
    fn look_after(&mut self, removed: &[(Owner, Capability)]) {
        for (_, capability) in removed {
            self.drop_reference(capability.object);
        }
        for (owner, capability) in removed {
            self.narrow(capability.object, *owner);
        }
    }

    /// How many capabilities name an object, for objects that end with the last.
    fn references(&mut self, object: ObjectId) -> Option<&mut u32> {
        match object.kind {
            ObjectKind::Domain => self.domains.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::Thread => self.threads.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::Endpoint => self.endpoints.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::Notification => self.notifications.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::Region => self.regions.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::IoPorts => self.ports.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::Key => self.pooled_keys.get_mut(Ref::of(object)).map(|it| &mut it.refs),
            ObjectKind::IrqLine => self.line_references(object.index),
            _ => None,
        }
    }

    /// One capability fewer names an object.
    fn drop_reference(&mut self, object: ObjectId) {
        let Some(refs) = self.references(object) else { return };
        *refs = refs.saturating_sub(1);
        if *refs > 0 {
            return;
        }
        match object.kind {
            ObjectKind::Domain => self.forget_domain(Ref::<Domain>::of(object)),
            ObjectKind::Thread => self.forget_thread(Ref::of(object)),
            ObjectKind::Endpoint => self.destroy_endpoint(Ref::of(object)),
            ObjectKind::Notification => self.destroy_notification(Ref::of(object)),
            ObjectKind::Region => self.destroy_region(Ref::of(object)),
            ObjectKind::IoPorts => drop(self.ports.remove(Ref::of(object))),
            ObjectKind::Key => self.drop_pooled_key_if_unused(Ref::of(object)),
            ObjectKind::IrqLine => self.release_line(object.index),
            _ => {}
        }
    }

    /// What a domain may do with the memory that a capability names.
    ///
    /// # Errors
    /// As [`Kernel::require`]; `RightsExceeded`.
    pub(crate) fn region_for(&self, owner: Owner, handle: u64, rights: Rights) -> Result<Ref<Region>, Error> {
        let capability = self.require(owner, handle, ObjectKind::Region, CapRights::empty())?;
        if rights > capability.rights.access() {
            return Err(Error::RightsExceeded);
        }
        Ok(Ref::of(capability.object))
    }
}
