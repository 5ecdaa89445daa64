//! The region in which the ledger is kept, and the capabilities that come with it.

use crate::doom;
use alloc::vec::Vec;
use init::ledger::Ledger;
use libpks::halves::{Halves, HalvesError, Memory};
use libpks::proto::supervisor::Moment;
use libpks::rt::log::warn;
use libpks::rt::{AnyCap, Capability, Env, EnvError, Error, Handle, Inspect, Region};

/// Bytes that the ledger takes at most.
const LEDGER_BYTES: usize = 60 << 10;
/// From this number on `init` is the first domain: it is the first that was ever made.
const OWN_NUMBER: u64 = 0;

/// Why the ledger cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum HeirloomError {
    /// The kernel gave none.
    #[error("{0}")]
    Env(#[from] EnvError),
    /// The kernel refused something.
    #[error("{0}")]
    Kernel(#[from] Error),
    /// It cannot be read or written.
    #[error("the ledger: {0}")]
    Halves(#[from] HalvesError<Error>),
}

/// The region as memory of the two halves.
struct Store {
    region: Region,
    bytes: u64,
}

impl Memory for Store {
    type Error = Error;

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.region.open_read()?.read(offset, into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Error> {
        let open = self.region.open_write()?;
        let (first, rest) = from.split_at(from.len() / 2);
        open.write(offset, first)?;
        doom::strike(Moment::HalfWritten);
        open.write(offset + first.len() as u64, rest)
    }
}

/// Where the ledger is kept.
pub(crate) struct Heirloom(Halves<Store>);

impl Heirloom {
    /// Opens it and gives the ledger of the supervisor before, or `None` for the first. Capabilities that neither the kernel
    /// gave nor the ledger names are deleted: the supervisor before died before it could write them down.
    ///
    /// # Errors
    /// [`HeirloomError`]; what cannot be read is not made up.
    pub(crate) fn open(env: &Env) -> Result<(Self, Option<Ledger>), HeirloomError> {
        let region: Region = env.capability("heirloom")?;
        let store = Store { region, bytes: region.info()?.bytes };
        let (halves, record) = Halves::open(store)?;
        let ledger = record.map(|record| Ledger::decode(&record)).transpose()?;
        sweep(env, ledger.as_ref())?;
        Ok((Self(halves), ledger))
    }

    /// Writes the ledger down.
    pub(crate) fn write(&mut self, ledger: &mut Ledger) {
        let written = ledger
            .encode(LEDGER_BYTES)
            .map_err(HeirloomError::from)
            .and_then(|bytes| self.0.write(&bytes).map_err(HeirloomError::from));
        if let Err(error) = written {
            // The next supervisor has the one before, and starts anew what that does not know.
            warn!("cannot write down what there is: {error}");
        }
    }
}

fn sweep(env: &Env, ledger: Option<&Ledger>) -> Result<(), HeirloomError> {
    let inspect: Inspect = env.capability("inspect")?;
    let own = inspect.domain_from(OWN_NUMBER)?.ok_or(Error::NotFound)?.id;
    let mut held = Vec::new();
    while let Some(info) = inspect.capability(own, held.len() as u64)? {
        held.push(info.handle);
    }
    let given = |handle: u64| env.capabilities().any(|(_, cap)| cap.handle().raw() == handle);
    let named = |handle: u64| ledger.is_some_and(|ledger| ledger.names(handle));
    for handle in held.into_iter().filter(|&handle| !given(handle) && !named(handle)) {
        // One may have gone with another.
        let _ = AnyCap::from_handle(Handle::from_raw(handle)).delete();
    }
    Ok(())
}
