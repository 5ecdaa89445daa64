//! Messages as they go through a gate, for servers whose business it is to be refused.

use super::endpoint::Endpoint;
use super::gate;
use crate::abi::message::{Info, WORDS};
use crate::abi::{Error, Syscall};

/// Calls an endpoint with this information word and these words, whatever they say. Bytes are those that the thread's
/// IPC buffer happens to hold; capabilities that come with the reply stay with the domain.
///
/// # Errors
/// What the kernel says.
pub fn call(endpoint: Endpoint, info: u64, words: [u64; WORDS]) -> Result<[u64; WORDS], Error> {
    let info = Info::from_raw(info);
    let registers = gate::Registers { words, info, target: endpoint.word(), extra: 0 };
    gate::call(registers).map(|answer| answer.words)
}

/// Goes through the gate of the kernel's own operations with this number, information word and these words.
///
/// # Errors
/// What the kernel says; [`Error::Unsupported`] for the operations that take an address at which this domain is entered:
/// only the runtime knows such addresses.
pub fn operate(number: u64, info: u64, words: [u64; WORDS]) -> Result<[u64; WORDS], Error> {
    if matches!(Syscall::from_number(number), Some(Syscall::ThreadCreate | Syscall::EndpointServe)) {
        return Err(Error::Unsupported);
    }
    gate::operate(number, info, words)
}
