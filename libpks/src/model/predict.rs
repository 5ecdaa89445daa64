//! What must come of a step.
#![forbid(unsafe_code)]

use super::access::Class;
use super::{Access, Cap, Errors, Give, Model, Says, Step};
use crate::abi::Error;
use alloc::vec;
use alloc::vec::Vec;

impl Model {
    /// Every error that a step could be refused with. If there are none it must be done, and [`commit`](Self::commit)
    /// says what it does; else it must be refused, with one of these, and nothing has changed.
    #[must_use]
    pub fn errors(&self, step: &Step) -> Errors {
        match *step {
            Step::Create { domain, key, .. } => self.create_errors(domain, key),
            Step::TakeKey => self.when(self.keys_left() == 0, Error::KeysExhausted),
            Step::DropKey { key } => self.when(!self.keys[key].held, Error::NoSuchCapability),
            Step::Rekey { cap, key } => self.with_cap(cap, |cap| self.rekey_errors(cap, key)),
            Step::Open { cap, access, .. } | Step::Global { cap, access } => {
                self.with_cap(cap, |cap| self.open_errors(cap, access))
            }
            Step::Mint { cap, says } => {
                self.with_cap(cap, |cap| self.when(!says.within(cap.says), Error::RightsExceeded))
            }
            Step::Delete { cap } | Step::Revoke { cap } => self.with_cap(cap, |_| Vec::new()),
            Step::Give { cap, to, how: Give::Move } => {
                self.with_cap(cap, |books| self.move_errors(cap, books, to))
            }
            Step::Give { cap, to, how } => {
                self.with_cap(cap, |cap| self.give_errors(cap, to, how == Give::ReadOnly))
            }
            Step::Lend { cap, to, read_only, .. } => {
                self.with_cap(cap, |cap| self.give_errors(cap, to, read_only))
            }
            _ => Vec::new(),
        }
    }

    /// What must come of what the borrower does in [`Step::Lend`]: an error of opening, if there is one.
    #[must_use]
    pub fn borrower_errors(&self, lent: usize, access: Access) -> Errors {
        self.with_cap(lent, |cap| self.open_errors(cap, access))
    }

    fn when(&self, refused: bool, error: Error) -> Errors {
        if refused { vec![error] } else { Vec::new() }
    }

    fn with_cap(&self, cap: usize, errors_fn: impl FnOnce(&Cap) -> Errors) -> Errors {
        self.cap(cap).map_or_else(|| vec![Error::NoSuchCapability], errors_fn)
    }

    fn create_errors(&self, domain: usize, key: Option<usize>) -> Errors {
        let Some(key) = key else { return Vec::new() };
        if !self.keys[key].held {
            return vec![Error::NoSuchCapability];
        }
        self.when(self.is_foreign_pin(key, domain, Access::Write), Error::Busy)
    }

    /// Whether a key has regions that not just this domain holds, for not just this.
    fn is_foreign_pin(&self, key: usize, domain: usize, access: Access) -> bool {
        let alone = if access == Access::Nothing { Vec::new() } else { vec![(domain, access)] };
        (0..self.regions.len())
            .filter(|&region| self.regions[region].alive && self.regions[region].pin == Some(key))
            .any(|region| self.holders(region) != alone)
    }

    fn rekey_errors(&self, cap: &Cap, key: usize) -> Errors {
        // What nobody may reach is under no key, so it gets no other.
        let unseen = self.holders(cap.region).is_empty();
        let mut errors = self.when(!cap.says.manage || unseen, Error::MissingRights);
        errors.extend(self.when(!self.keys[key].held, Error::NoSuchCapability));
        let others = self.holders(cap.region).iter().any(|(holder, _)| *holder != cap.domain);
        let held = self.held(cap.domain, cap.region);
        if others || self.is_foreign_pin(key, cap.domain, held) {
            errors.push(Error::Busy);
        }
        errors
    }

    fn open_errors(&self, cap: &Cap, access: Access) -> Errors {
        let mut errors = self.when(access > cap.says.access(), Error::RightsExceeded);
        if self.needs_key_to_open(cap.region, access) {
            errors.push(Error::KeysExhausted);
        }
        errors
    }

    /// A capability to another domain, on loan or for good.
    fn give_errors(&self, cap: &Cap, to: usize, read_only: bool) -> Errors {
        let mut errors = self.when(!cap.says.grant, Error::MissingRights);
        let says = Says { write: cap.says.write && !read_only, ..cap.says };
        errors.extend(self.widen_error(cap.region, to, says));
        errors
    }

    /// A capability that another domain has afterwards, and its holder no longer: no key is needed but those that are
    /// in use in the end.
    fn move_errors(&self, number: usize, cap: &Cap, to: usize) -> Errors {
        let mut errors = self.when(!cap.says.grant, Error::MissingRights);
        let mut after = self.clone();
        after.caps[number].domain = to;
        if after.holders(cap.region) == self.holders(cap.region) {
            return errors;
        }
        match self.class(cap.region) {
            Class::Pinned(_) => errors.extend(self.when(self.pinned_beside(cap.region) > 0, Error::Busy)),
            Class::Held(_) => errors.extend(self.when(after.is_overdrawn(), Error::KeysExhausted)),
        }
        errors
    }

    /// What stands against a domain's holding a region for more.
    fn widen_error(&self, region: usize, to: usize, says: Says) -> Option<Error> {
        let mut after = self.clone();
        after.caps.push(Cap { domain: to, region, says, parent: None, alive: true });
        if after.held(to, region) == self.held(to, region) {
            return None;
        }
        match self.class(region) {
            Class::Pinned(_) if self.pinned_beside(region) > 0 => Some(Error::Busy),
            Class::Pinned(_) => None,
            Class::Held(_) => after.is_overdrawn().then_some(Error::KeysExhausted),
        }
    }
}
