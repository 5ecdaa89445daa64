//! Messages as they go through a gate, for servers whose business it is to be refused.

use super::endpoint::Endpoint;
use super::gate;
use crate::abi::message::{Info, WORDS};
use crate::abi::{Error, Syscall, layout};

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
/// What the kernel says; [`Error::Unsupported`] for the operations that take an address at which this domain is entered,
/// if it lies in this domain: only the runtime knows such addresses. The kernel must refuse all others.
pub fn operate(number: u64, info: u64, words: [u64; WORDS]) -> Result<[u64; WORDS], Error> {
    let entry = match Syscall::from_number(number) {
        Some(Syscall::ThreadCreate) => Some(words[0]),
        Some(Syscall::EndpointServe) => Some(words[1]),
        _ => None,
    };
    let here = operate as *const () as usize as u64;
    if entry.is_some_and(|entry| layout::slot_of(entry) == layout::slot_of(here)) {
        return Err(Error::Unsupported);
    }
    gate::operate(number, info, words)
}
