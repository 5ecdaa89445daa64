//! Operations on capabilities.

use super::{Answer, Outcome, Request, misrouted};
use crate::state::Kernel;
use libpks::abi::{Error, Syscall};
use libpks::cap::{CapRights, Handle, Progress};

/// The rights that a word names.
///
/// # Errors
/// `InvalidArgument` for a bit that is no right.
pub(super) fn cap_rights(word: u64) -> Result<CapRights, Error> {
    u16::try_from(word).ok().and_then(CapRights::from_bits).ok_or(Error::InvalidArgument)
}

impl Kernel {
    pub(super) fn operate_cap(&mut self, syscall: Syscall, request: &Request) -> Outcome {
        let [handle, rights, badge, ..] = request.words;
        let owner = request.owner();
        match syscall {
            Syscall::CapMint => {
                let rights = cap_rights(rights)?;
                self.mint(owner, handle, owner, rights, badge).map(|minted| Answer::one(minted.raw()))
            }
            Syscall::CapDelete => {
                self.delete_cap(owner, handle)?;
                Ok(Answer::NOTHING)
            }
            Syscall::CapRevoke => {
                if self.revoke_step(owner, handle)? == Progress::Done {
                    return Ok(Answer::NOTHING);
                }
                // More is left. The thread comes through the gate again with the same arguments, so that whoever is
                // more urgent gets in between: a revoke has preemption points and can start again.
                self.threads[request.thread].record.rip = libpks::abi::layout::GATE_SYSCALL;
                Ok(Answer::Later)
            }
            Syscall::CapIdentify => {
                let capability = self.caps.lookup(owner, Handle::from_raw(handle)).map_err(Error::from)?;
                let kind = u64::from(capability.object.kind.code());
                let rights = u64::from(capability.rights.bits());
                Ok(Answer::Words([
                    kind,
                    rights,
                    capability.badge,
                    u64::from(capability.object.index),
                    0,
                    0,
                    0,
                    0,
                ]))
            }
            _ => misrouted(),
        }
    }
}
