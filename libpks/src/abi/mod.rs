//! The contract between the kernel and its servers: the one place where it is written down.
//!
//! Both sides compile this module, so an address, a number or a structure cannot differ between them. A server
//! carries [`VERSION`] in an ELF note; the kernel refuses to load one that was built for another version.
//!
//! | module | what it fixes |
//! |---|---|
//! | [`layout`] | the addresses that never move: gates, domain slots, contexts, IPC buffers |
//! | [`message`] | which register carries what through a gate |
//! | [`syscall`] | the numbers of the kernel's own operations and what each takes and gives |
//! | [`error`] | every way in which an operation can fail |
//! | [`fault`] | the report of a fault |
//! | [`start`] | what a domain is told when it starts |
//! | [`inspect`] | what the kernel tells about itself |
//! | [`selftest`] | what the SelfTest capability gives |

pub mod error;
pub mod fault;
pub mod inspect;
pub mod layout;
pub mod message;
pub mod selftest;
pub mod start;
pub mod syscall;

pub use error::Error;
pub use syscall::{PLACE_ALONE, PLACE_ANYWHERE, PLACE_EMPTY, PLACE_HERE, Syscall};

/// The version of this contract. It changes with every incompatible change of anything in [`crate::abi`].
pub const VERSION: u32 = 4;

/// A name as the kernel keeps it: at most 32 bytes of UTF-8.
pub type Name = heapless::String<32>;

/// Cuts `text` to a [`Name`], at a character boundary.
pub fn name(text: &str) -> Name {
    let mut name = Name::new();
    for c in text.chars() {
        if name.push(c).is_err() {
            break;
        }
    }
    name
}
