//! Capabilities that are lent for the length of a call.
#![forbid(unsafe_code)]

use super::node::{Link, Node, Tenure};
use super::revoke::Progress;
use super::space::Space;
use super::table::derive;
use super::{CapError, CapRights, CapTable, Cause, Handle, Owner, Removal};
use crate::table::{Id, Slot, Table};

/// A capability that was lent. Whoever keeps the books of the call keeps this, and ends the loan with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loan(Id);

impl<N: Table<Slot<Node>>, S: Table<Space>> CapTable<N, S> {
    /// Lends a capability: `to` gets a derived one with `rights` until [`end_loan_step`](Self::end_loan_step).
    ///
    /// The borrower may use it, drop it, and lend it on; it cannot copy it or hand it over, so nothing of it
    /// is left when the loan has ended. A loan of a borrowed capability ends with it, also if the borrower has
    /// dropped its own before: else two that work together could keep what was lent to one of them.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`], [`CapError::MissingRights`] without GRANT, [`CapError::RightsExceeded`],
    /// [`CapError::NoSuchSpace`] and [`CapError::SpaceFull`] for `to`, [`CapError::OutOfMemory`].
    pub fn lend(
        &mut self,
        owner: Owner,
        handle: Handle,
        to: Owner,
        rights: CapRights,
    ) -> Result<(Handle, Loan), CapError> {
        let source = &self.held(owner, handle)?.capability;
        if !source.rights.contains(CapRights::GRANT) {
            return Err(CapError::MissingRights);
        }
        let capability = derive(source, rights, 0)?;
        let lent = self.insert(Node::new(to, capability, Tenure::Lent), Link::to(handle.id().index))?;
        Ok((lent, Loan(lent.id())))
    }

    /// Takes back what was lent and all that was lent on from it, at most `budget` steps at a time.
    ///
    /// A loan that is over already, because it was revoked or the borrower has dropped it and lent nothing on, is
    /// `Done`.
    pub fn end_loan_step(
        &mut self,
        loan: Loan,
        budget: u32,
        mut removed: impl FnMut(Removal<'_>),
    ) -> Progress {
        let Loan(id) = loan;
        if self.nodes.get(id).is_none_or(|node| !matches!(node.tenure, Tenure::Lent | Tenure::Dropped)) {
            return Progress::Done;
        }
        match self.prune(id.index, budget, Cause::LoanEnded, &mut removed) {
            Some(0) | None => Progress::More,
            Some(_) => {
                self.condemn(id.index, Cause::LoanEnded, &mut removed);
                Progress::Done
            }
        }
    }
}
