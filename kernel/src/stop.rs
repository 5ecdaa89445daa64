//! Why the kernel stops the machine by itself, as it is reported: a machine check, or a trap that finds the kernel
//! itself at fault.

use crate::arch::machine_check::{self, MACHINE_CHECK, MachineCheck};
use crate::arch::record::{NO_ERROR_CODE, Record};
use crate::arch::{insn, window};
use core::fmt;

const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
/// From here on a vector is an interrupt.
const FIRST_INTERRUPT: u64 = 32;

/// What is at the bottom of it.
#[derive(Debug)]
enum Cause {
    /// The hardware reports an error.
    MachineCheck,
    /// A stack of the kernel is full; its guard page was touched at this address.
    StackOverflow { stack: &'static str, address: u64 },
    /// An access to this address.
    PageFault { address: u64 },
    /// A fault could not be delivered.
    DoubleFault,
    /// Another exception.
    Exception,
    /// Interrupts are off in the kernel, so this is none, or a check of the entry code has failed there.
    Interrupt,
}

impl Cause {
    fn of(record: &Record) -> Cause {
        match record.vector {
            MACHINE_CHECK => Cause::MachineCheck,
            DOUBLE_FAULT => Cause::DoubleFault,
            PAGE_FAULT => {
                let address = insn::read_cr2();
                match window::stack_guarded_at(address) {
                    Some(stack) => Cause::StackOverflow { stack, address },
                    None => Cause::PageFault { address },
                }
            }
            FIRST_INTERRUPT.. => Cause::Interrupt,
            _ => Cause::Exception,
        }
    }
}

/// A trap that stops the machine.
#[derive(Debug)]
struct Stop<'a> {
    cause: Cause,
    /// DEPTH in its handler.
    depth: u32,
    record: &'a Record,
}

impl fmt::Display for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { vector, error, rip, rsp, rflags, pkrs, .. } = *self.record;
        match &self.cause {
            Cause::MachineCheck => MachineCheck.fmt(f)?,
            Cause::StackOverflow { stack, address } => {
                write!(f, "the {stack} stack overflows at {address:#x}")?
            }
            Cause::PageFault { address } => write!(f, "page fault in the kernel at {address:#x}")?,
            Cause::DoubleFault => write!(f, "double fault in the kernel")?,
            Cause::Exception => write!(f, "exception {vector} in the kernel")?,
            Cause::Interrupt => write!(f, "interrupt {vector:#x} in the kernel")?,
        }
        write!(
            f,
            "\n  depth={} rip={rip:#018x} rsp={rsp:#018x} rflags={rflags:#x} PKRS={pkrs:#010x}",
            self.depth
        )?;
        if error != NO_ERROR_CODE {
            write!(f, " error={error:#x}")?;
        }
        let Record { rax, rcx, rdx, rbx, rbp, rsi, rdi, .. } = *self.record;
        write!(
            f,
            "\n  rax={rax:#x} rcx={rcx:#x} rdx={rdx:#x} rbx={rbx:#x} rbp={rbp:#x} rsi={rsi:#x} rdi={rdi:#x}"
        )
    }
}

/// Stops for a trap.
pub(crate) fn by_trap(record: &Record) -> ! {
    panic!("{}", Stop { cause: Cause::of(record), depth: window::depth(), record })
}

/// Stops for lack of stacks.
pub(crate) fn too_deep() -> ! {
    let (depth, deepest) = (window::depth(), window::DEEPEST);
    if machine_check::is_in_progress() {
        let rip = window::interrupted_at(3);
        panic!("{MachineCheck}\n  depth={depth} rip={rip:#018x}, and stacks for {deepest} only");
    }
    panic!("traps inside one another to depth {depth}, and stacks for {deepest} only")
}
