//! `init` is started again in place: there is nobody else who could start it, and what it holds (its servers' domains,
//! their endpoints, their devices) must not go with it.
//!
//! Its number, its capability space and its quota stay. Its threads, calls, memory and image are new, as with any
//! restart; the new one finds what its predecessor wrote down in a region that stays too, the *heirloom*
//! (docs/servers.md). One that keeps ending is left to the manifest's policy.

use super::Domain;
use crate::arch::{clock, power};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::ThreadRequest;
use libpks::abi::inspect::DomainState;
use libpks::abi::start::StartInfo;
use libpks::abi::{Error, layout};
use libpks::burst::Burst;
use libpks::manifest_head::RestartPolicy;

/// So many ends within [`WINDOW_NS`] are too many.
const TOO_MANY: usize = 3;
const WINDOW_NS: u64 = 10_000_000_000;

/// What becomes of a domain that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Everything that it held is taken from it.
    Over,
    /// What it held stays held, by nobody: else its servers, which nobody else holds, would end with it.
    Held,
    /// It keeps what it held and is started again.
    Again,
}

/// The domain that starts all others.
pub(crate) struct Warden {
    domain: Ref<Domain>,
    /// What it is started with.
    info: StartInfo,
    ends: Burst<TOO_MANY>,
}

impl Warden {
    /// One that has not ended yet.
    pub(crate) fn new(domain: Ref<Domain>, info: StartInfo) -> Warden {
        Warden { domain, info, ends: Burst::new(WINDOW_NS) }
    }
}

impl Kernel {
    /// Starts `init`, whose image is loaded.
    ///
    /// # Errors
    /// Those of making a thread.
    pub(crate) fn start_warden(&mut self) -> Result<(), Error> {
        let Some(warden) = &self.warden else { return Err(Error::NotFound) };
        let domain = warden.domain;
        let mut room = [0; layout::IPC_BUFFER_BYTES];
        let bytes = libpks::wire::encode(&warden.info, &mut room).map_err(|_| Error::TooLarge)?;
        let (entry, head) = (self.domains[domain].entry, self.manifest_head());
        let (priority, stack_bytes) = (head.priority, head.stack_bytes);
        let request = ThreadRequest { entry, argument: bytes as u64, stack_bytes, priority };
        let thread = self.create_thread(domain, request)?;
        self.write_buffer(&self.threads[thread].home, &room[..bytes]);
        self.domains[domain].state = DomainState::Running;
        self.make_ready(thread);
        Ok(())
    }

    /// What becomes of a domain that has ended. `init` is started again, unless it has ended too often: then the
    /// manifest's policy is carried out here.
    pub(super) fn fate_of(&mut self, domain: Ref<Domain>) -> Fate {
        let now = clock::now_ns();
        let Some(warden) = self.warden.as_mut().filter(|warden| warden.domain == domain) else {
            return Fate::Over;
        };
        warden.info.restarts = warden.info.restarts.saturating_add(1);
        if !warden.ends.note(now) {
            return Fate::Again;
        }
        // Where no server lives there is nothing to be saved, and starting the machine again would lead here.
        if self.is_deserted() { Fate::Over } else { self.carry_out_policy() }
    }

    /// `init` has ended too often.
    fn carry_out_policy(&self) -> Fate {
        let seconds = WINDOW_NS / 1_000_000_000;
        match self.manifest_head().restart {
            RestartPolicy::Restart => return Fate::Again,
            RestartPolicy::Stop => {
                log::error!(target: "domain", "init has ended {TOO_MANY} times in {seconds} s: it stays stopped, and the servers go on without it");
            }
            RestartPolicy::Reboot => {
                // Nobody would drain the log any more.
                crate::log::set_drained(false);
                log::error!(target: "domain", "init has ended {TOO_MANY} times in {seconds} s: the machine is started again");
                power::reboot();
                log::error!(target: "domain", "the machine cannot be started again: the servers go on without init");
            }
        }
        Fate::Held
    }

    /// Starts `init` again. Its threads have ended or are somebody else's by now, its memory is gone. Gives whether that
    /// could be done.
    pub(super) fn revive(&mut self, domain: Ref<Domain>) -> bool {
        let module = self.domains[domain].module;
        let revived = module.ok_or(Error::NotFound).and_then(|module| {
            self.furnish_memory(domain, module)?;
            self.start_warden()
        });
        match revived {
            Ok(()) => {
                let restarts = self.warden.as_ref().map_or(0, |warden| warden.info.restarts);
                log::warn!(target: "domain", "init is started again in place, for the {restarts}. time");
                true
            }
            Err(error) => {
                log::error!(target: "domain", "init cannot be started again: {error}");
                self.end_threads_of(domain);
                self.release_domain_memory(domain);
                false
            }
        }
    }
}
