//! How a domain begins and ends: the entry of its first thread, and the note that says which ABI it was built for.

use super::env::Env;
use super::gate::{self, syscall, syscall_with};
use super::{buffer, envelope, heap};
use crate::abi::layout::IPC_BUFFER_BYTES;
use crate::abi::start::StartInfo;
use crate::abi::{Syscall, VERSION};
use crate::elf::{NOTE_NAME, NOTE_TYPE};
use alloc::boxed::Box;
use alloc::vec;
use core::arch::naked_asm;

/// An ELF note (System V ABI, chapter 5, "Note Section").
#[repr(C, align(4))]
struct Note {
    name_bytes: u32,
    description_bytes: u32,
    kind: u32,
    name: [u8; 12],
    version: u32,
}

// SAFETY: the section holds notes and this is a well-formed one; nothing refers to it by address.
#[unsafe(link_section = ".note.portcullis")]
#[used]
static NOTE: Note = Note {
    name_bytes: 11,
    description_bytes: 4,
    kind: NOTE_TYPE,
    name: *b"Portcullis\0\0",
    version: VERSION,
};

const _: () = assert!(NOTE_NAME.len() == 11);

unsafe extern "Rust" {
    /// What `server_main!` makes of the server's `main`.
    safe fn portcullis_main(env: Env) -> i32;
}

/// Names the function that runs when the domain starts: it takes an [`Env`] and gives an [`Outcome`]. The domain lives
/// on after `main` only if other threads of it do.
#[macro_export]
macro_rules! server_main {
    ($main:path) => {
        // The symbol is libpks' own; a second definition in one server does not link.
        #[unsafe(no_mangle)]
        fn portcullis_main(env: $crate::rt::Env) -> i32 {
            $crate::rt::start::Outcome::code($main(env))
        }
    };
}

/// What `main` may give.
pub trait Outcome {
    /// The exit code of the first thread. May end the domain with a panic instead.
    fn code(self) -> i32;
}

impl Outcome for i32 {
    fn code(self) -> i32 {
        self
    }
}

impl Outcome for () {
    fn code(self) -> i32 {
        0
    }
}

/// An error is a panic: the domain ends by a fault that quotes it, so the supervisor's policy applies.
impl<E: core::fmt::Display> Outcome for Result<(), E> {
    fn code(self) -> i32 {
        match self {
            Ok(()) => 0,
            Err(error) => panic!("main: {error}"),
        }
    }
}

/// The entry of the image. RDI holds the length of the start information in the IPC buffer; RSP is the end of the
/// stack, which is aligned to 16 as a CALL wants it. RBP = 0 ends backtraces.
///
/// # Safety
/// Only the kernel enters here, once, with the first thread.
// SAFETY: `_start` is the name that the linker takes as the entry; no other crate of a server defines it.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "sysv64" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "cld", "call {first}", "ud2", first = sym first_thread)
}

extern "sysv64" fn first_thread(bytes: u64) -> ! {
    let mut encoded = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(IPC_BUFFER_BYTES)];
    buffer::take(&mut encoded);
    let code = match envelope::from_bytes::<Box<StartInfo>>(&encoded) {
        Ok(info) => portcullis_main(Env::new(info)),
        Err(error) => panic!("start information: {error}"),
    };
    exit(code)
}

/// Ends the calling thread. What is on its stack is not dropped.
pub fn exit(code: i32) -> ! {
    let _ = syscall(Syscall::Exit, [i64::from(code) as u64]);
    gate::die()
}

/// Ends the domain with a fault that quotes `message`.
pub(super) fn abort(message: &str) -> ! {
    let _ = syscall_with(Syscall::Abort, [], message.as_bytes());
    gate::die()
}

/// Bytes that the heap takes up, free ones included.
pub fn heap_bytes() -> usize {
    heap::size()
}
