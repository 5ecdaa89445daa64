//! What a call has used beyond the budget of who pays for it.

use super::{Account, Standing};

/// The time of a call that is being served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallTime {
    /// How the caller ran when the call was accepted.
    begun: Standing,
    beyond_ns: u64,
}

impl CallTime {
    /// A call that begins now, of a caller that runs like this.
    #[must_use]
    pub const fn begin(caller: Standing) -> Self {
        Self { begun: caller, beyond_ns: 0 }
    }

    /// How the call runs. Once begun at priority it stays there: a budget that ends in the middle of a server is the
    /// client's affair, and must not make the server late for others. What was begun in the background stays there until
    /// there is a budget; and what nobody pays for any more goes there.
    #[must_use]
    pub const fn standing(&self, payer: Option<&Account>) -> Standing {
        match payer {
            Some(account) if !account.is_depleted() => Standing::AtPriority,
            Some(_) => self.begun,
            None => Standing::InBackground,
        }
    }

    /// Adds time that the call has run while nothing was left on the account of who pays for it.
    pub const fn go_beyond(&mut self, ns: u64) {
        self.beyond_ns = self.beyond_ns.saturating_add(ns);
    }

    /// What is left of an overrun budget of so many nanoseconds; `None` if it is used up: then the server hangs.
    #[must_use]
    pub const fn left_of(&self, overrun_ns: u64) -> Option<u64> {
        match overrun_ns.checked_sub(self.beyond_ns) {
            None | Some(0) => None,
            left => left,
        }
    }
}
