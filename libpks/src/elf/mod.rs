//! The check that every server image passes before any byte of it is loaded.
//!
//! A server is a static position-independent executable as `rust-lld` links it for `x86_64-unknown-none`
//! with page-aligned segments. Every byte of the file is hostile: the reader takes numbers only through
//! bounds-checked reads, all arithmetic on them is checked, and work is bounded by the file's size. What
//! [`Image::parse`] accepts has
//!
//! - segments that start on pages, ascend, do not share a page, lie in the file, are never writable and
//!   executable at once, and end within [`MAX_SPAN`];
//! - an entry point in executable bytes that come from the file;
//! - relocations of type `R_X86_64_RELATIVE` only, to aligned words in writable segments, with values inside
//!   the image; nothing else that a loader would have to do before the entry point runs;
//! - a range to be made read-only after relocation (RELRO), if any, that consists of whole pages;
//! - one note that tells for which version of the ABI it was built.
//!
//! Source: System V ABI, chapters 4 and 5, and its AMD64 supplement, chapters 4 and 5.
#![forbid(unsafe_code)]

mod dynamic;
mod image;
mod note;
mod read;
mod segment;
mod symbols;

pub use dynamic::{Relocation, Relocations};
pub use image::Image;
pub use note::{NOTE_NAME, NOTE_TYPE};
pub use segment::{Protection, Segment};
pub use symbols::symbol_at;

/// The page size that the image has to respect.
pub const PAGE: u64 = 4096;
/// The most that an image may span from address 0, in bytes.
pub const MAX_SPAN: u64 = 256 << 20;
/// The most PT_LOAD segments. The reference layout has four.
pub const MAX_SEGMENTS: usize = 8;
/// The most program headers.
pub const MAX_HEADERS: u16 = 32;

/// Why an image is refused. Segment numbers count program headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// No ELF magic number.
    #[error("not an ELF file")]
    NotElf,
    /// Not a 64-bit little-endian x86_64 file of ELF version 1.
    #[error("not a 64-bit x86_64 ELF file")]
    WrongMachine,
    /// Not ET_DYN.
    #[error("not a position-independent executable")]
    NotPie,
    /// A header or table does not lie in the file.
    #[error("file ends in the middle of {0}")]
    Truncated(&'static str),
    /// The size of program header entries is not that of ELF64.
    #[error("program headers have the wrong size")]
    HeaderSize,
    /// More than [`MAX_HEADERS`] program headers.
    #[error("too many program headers")]
    TooManyHeaders,
    /// More than [`MAX_SEGMENTS`] PT_LOAD segments.
    #[error("too many segments")]
    TooManySegments,
    /// No PT_LOAD segment.
    #[error("nothing to load")]
    NoSegments,
    /// The segment's bytes do not lie in the file.
    #[error("segment {0} is not in the file")]
    SegmentOutsideFile(u16),
    /// More bytes in the file than in memory, or an executable segment with bytes that are not in the file.
    #[error("segment {0} has inconsistent sizes")]
    SegmentSizes(u16),
    /// The segment does not start on a page.
    #[error("segment {0} is not page aligned")]
    SegmentMisaligned(u16),
    /// The segment is below, or on a page of, one before it.
    #[error("segment {0} overlaps or precedes another")]
    SegmentOrder(u16),
    /// The segment ends beyond [`MAX_SPAN`].
    #[error("segment {0} ends beyond 256 MiB")]
    TooLarge(u16),
    /// The segment is writable and executable.
    #[error("segment {0} is writable and executable")]
    WriteAndExecute(u16),
    /// The segment is not readable, or has flags that mean nothing here.
    #[error("segment {0} has unusable flags")]
    SegmentFlags(u16),
    /// The stack is asked to be executable.
    #[error("asks for an executable stack")]
    ExecutableStack,
    /// The entry point is not in executable bytes from the file.
    #[error("entry point is not in executable code")]
    Entry,
    /// PT_INTERP: the image wants a dynamic linker.
    #[error("wants a dynamic linker")]
    Interpreter,
    /// PT_TLS: there is no thread-local storage.
    #[error("has thread-local storage")]
    ThreadLocal,
    /// No dynamic section, so it is unknown which relocations there are.
    #[error("no dynamic section")]
    NoDynamic,
    /// A header or dynamic entry of which there can be one only occurs twice.
    #[error("{0} occurs twice")]
    Duplicate(&'static str),
    /// DT_NEEDED: the image wants a shared library.
    #[error("wants a shared library")]
    Needed,
    /// DT_TEXTREL or DF_TEXTREL: relocations in text.
    #[error("has text relocations")]
    TextRelocations,
    /// REL, RELR or PLT relocations; only RELA is understood.
    #[error("has {0} relocations, only RELA is supported")]
    RelocationTable(&'static str),
    /// Initialisers or finalisers that nobody would run.
    #[error("has initialisers")]
    Initialisers,
    /// The relocation table is incomplete, of odd size, or not in the loaded bytes of the file.
    #[error("relocation table is malformed")]
    RelocationTableRange,
    /// Not R_X86_64_RELATIVE without a symbol.
    #[error("relocation {0} is of type {1}, only RELATIVE is supported")]
    RelocationType(u64, u32),
    /// The target is not an aligned word in a writable segment.
    #[error("relocation {0} has its target outside of writable data")]
    RelocationTarget(u64),
    /// The value would point outside of the image.
    #[error("relocation {0} points outside of the image")]
    RelocationAddend(u64),
    /// The RELRO range is not whole pages of one writable segment.
    #[error("RELRO range is not whole pages of a writable segment")]
    Relro,
    /// A note does not fit its segment.
    #[error("malformed note")]
    Note,
    /// No ABI note.
    #[error("no ABI note")]
    NoAbiNote,
}
