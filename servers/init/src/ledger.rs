//! What a supervisor writes down for the one that follows it: which capabilities it holds are which, and what it knows
//! of each server.

use crate::backoff::Backoff;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use libpks::abi::Error;
use libpks::abi::fault::FaultReport;
use libpks::rt::envelope;
use serde::{Deserialize, Serialize};

/// A handle with the name of what it stands for.
pub type Named = (String, u64);

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// The notification that tells of ends.
    pub ended: u64,
    /// The endpoints by name.
    pub endpoints: Vec<Named>,
    /// The servers.
    pub servers: Vec<Record>,
    /// The fault by which the supervisor itself ended last.
    pub own_fault: Option<Box<FaultReport>>,
}

/// What is known of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its domain, if it has one.
    pub domain: Option<u64>,
    /// When it is started, in nanoseconds since boot. With a domain: that one is to be stopped before.
    pub due_ns: Option<u64>,
    /// When it was started last.
    pub started_ns: u64,
    /// How long it waits after its next fault.
    pub backoff: Backoff,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it could not be started.
    pub refused: Option<Error>,
    /// The fault that ended it last.
    pub fault: Option<Box<FaultReport>>,
    /// Its ports and interrupt lines by name.
    pub devices: Vec<Named>,
}

impl Ledger {
    /// Encodes it into at most `limit` bytes. Reports of faults are left out if it does not fit with them.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn encode(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = alloc::vec![0; limit];
        let length = envelope::to_bytes(self, &mut bytes).or_else(|_| {
            self.own_fault = None;
            self.servers.iter_mut().for_each(|record| record.fault = None);
            envelope::to_bytes(self, &mut bytes)
        })?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Decodes what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        envelope::from_bytes(bytes)
    }

    /// Whether a handle is in it. What is not in it is nobody's.
    pub fn names(&self, handle: u64) -> bool {
        let endpoints = self.endpoints.iter().map(|(_, handle)| *handle);
        let servers = self.servers.iter().flat_map(|record| {
            record.domain.into_iter().chain(record.devices.iter().map(|(_, handle)| *handle))
        });
        handle == self.ended || endpoints.chain(servers).any(|known| known == handle)
    }

    /// What is known of a server.
    pub fn take(&mut self, name: &str) -> Option<Record> {
        let position = self.servers.iter().position(|record| record.name == name)?;
        Some(self.servers.swap_remove(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libpks::abi::fault::{FaultAccess, FaultKind};
    use libpks::abi::name;

    fn fault() -> Box<FaultReport> {
        Box::new(FaultReport {
            time_ns: 1,
            domain: 5,
            domain_name: name("console"),
            thread: 7,
            cpu: 1,
            kind: FaultKind::Panic,
            access: FaultAccess::None,
            address: 0,
            error_code: 0,
            key: None,
            owner: None,
            pkrs: 0,
            pkrs_live: 0,
            rip: 1,
            rsp: 2,
            rflags: 3,
            registers: [4; 15],
            backtrace: heapless::Vec::new(),
            message: heapless::String::new(),
        })
    }

    fn sample() -> Ledger {
        let console = Record {
            name: "console".into(),
            domain: Some(77),
            fault: Some(fault()),
            devices: alloc::vec![("irq:4".into(), 4), ("ports:3f8".into(), 3)],
            restarts: 2,
            ..Record::default()
        };
        let shell = Record { name: "shell".into(), due_ns: Some(9), ..Record::default() };
        Ledger {
            ended: 1,
            endpoints: alloc::vec![("console".into(), 2)],
            servers: alloc::vec![console, shell],
            own_fault: None,
        }
    }

    #[test]
    fn what_is_written_down_comes_back() {
        let bytes = sample().encode(4096).unwrap();
        assert_eq!(Ledger::decode(&bytes), Ok(sample()));
        assert_eq!(Ledger::decode(&bytes[1..]), Err(Error::Malformed));
        assert_eq!(Ledger::decode(&bytes[..bytes.len() - 1]), Err(Error::Malformed));
    }

    #[test]
    fn without_room_the_reports_are_left_out() {
        let long = sample().encode(4096).unwrap().len();
        let bytes = sample().encode(long - 1).unwrap();
        let mut expected = sample();
        expected.servers[0].fault = None;
        assert_eq!(Ledger::decode(&bytes), Ok(expected));
        assert_eq!(sample().encode(bytes.len() - 1), Err(Error::TooLarge));
    }

    #[test]
    fn it_knows_its_handles_and_its_servers() {
        let mut ledger = sample();
        assert!([1, 2, 3, 4, 77].into_iter().all(|handle| ledger.names(handle)));
        assert!(![0, 5, 9, 78].into_iter().any(|handle| ledger.names(handle)));
        assert_eq!(ledger.take("shell").and_then(|record| record.due_ns), Some(9));
        assert_eq!(ledger.take("shell"), None);
        assert!(ledger.take("console").is_some());
    }
}
