//! Starting the other CPUs: INIT, startup IPI, and a mailbox for each (Intel SDM vol. 3A 9.4.4).
//!
//! A started CPU comes by the trampoline and the same path as the bootstrap processor into the
//! direct map. There it empties its mailbox, and waits in the loader's image, which stays in
//! bootloader-reclaimable memory, for the kernel to write its `goto_address`.

use crate::boot::BootError;
use crate::handoff::Prepared;
use crate::machine::Memory;
use core::arch::x86_64::{__cpuid, _rdtsc};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};
use direct::acpi::{Madt, Processor};
use direct::memory_map::{Kind, PAGE};
use direct::responses::{Answers, MAX_CPUS};
use heapless::Vec;
use x86_64::registers::model_specific::Msr;

/// By APIC number, the virtual address of the CPU's record, which `entry.s` takes out when it runs.
#[unsafe(no_mangle)]
static MAILBOXES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Some milliseconds in cycles of the time stamp counter: what a CPU is given after INIT.
const AFTER_INIT: u64 = 10_000_000;
/// Time for a CPU to take note of a startup IPI before it is repeated.
const AFTER_STARTUP: u64 = 1_000_000;
/// Seconds: a CPU that has not come by then never does. A busy host needs 170 ms.
const PATIENCE: u64 = 10_000_000_000;

const APIC_BASE: u32 = 0x1b;
const APIC_ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const ICR_INIT: u32 = 0x4500;
const ICR_STARTUP: u32 = 0x4600;
const ICR_PENDING: u32 = 1 << 12;

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

/// Starts every CPU that the MADT names and answers the multiprocessor request with those that came.
/// Without a local APIC the request stays unanswered. Each CPU gets `stack` bytes of stack;
/// `direct_map` is the direct map's virtual address. The result is how many CPUs there are.
///
/// # Errors
/// When there is no memory for a stack, a record or the trampoline.
pub(crate) fn start(
    memory: &mut Memory,
    answers: &mut Answers<'_>,
    madt: &Madt<'_>,
    stack: u64,
    direct_map: u64,
    _: &Prepared,
) -> Result<usize, BootError> {
    let Some(apic) = LocalApic::find() else { return Ok(1) };
    let bootstrap = apic.id();
    let mut records: Vec<(Processor, u64), MAX_CPUS> = Vec::new();
    for processor in madt.processors() {
        let mut stack_top = 0;
        if processor.apic_id != bootstrap {
            let stack = memory.allocate(stack, PAGE, Kind::BootloaderReclaimable)?;
            stack_top = direct_map + stack.as_ptr_range().end as u64;
        }
        let record = answers.processor(processor, stack_top)?;
        records.push((processor, record)).map_err(|_| BootError::TooManyProcessors)?;
    }
    let mut others = records.clone();
    others.retain(|(processor, _)| processor.apic_id != bootstrap);
    if !others.is_empty() {
        wake(&apic, &others, trampoline(memory)?);
    }
    let came = |(processor, record): &(Processor, u64)| {
        let mailbox = &MAILBOXES[usize::from(processor.apic_id)];
        // Taking the record back and finding none are one step: no CPU is both waited for and lost.
        (mailbox.swap(0, Ordering::AcqRel) == 0).then_some(*record)
    };
    let running: Vec<u64, MAX_CPUS> = records.iter().filter_map(came).collect();
    answers.processors(bootstrap, &running)?;
    Ok(running.len())
}

/// Starts `others` at the trampoline in page number `page`, and waits for all of them.
fn wake(apic: &LocalApic, others: &[(Processor, u64)], page: u32) {
    let mailbox = |processor: &Processor| &MAILBOXES[usize::from(processor.apic_id)];
    for (processor, record) in others {
        mailbox(processor).store(*record, Ordering::Release);
        apic.send(processor.apic_id, ICR_INIT);
    }
    let waiting = || others.iter().filter(|(p, _)| mailbox(p).load(Ordering::Acquire) != 0);
    delay(AFTER_INIT, || false);
    for _ in 0..2 {
        for (processor, _) in waiting() {
            apic.send(processor.apic_id, ICR_STARTUP | page);
        }
        delay(AFTER_STARTUP, || waiting().next().is_none());
    }
    delay(PATIENCE, || waiting().next().is_none());
}

/// Copies the trampoline to a page below 1 MiB and returns the page's number.
fn trampoline(memory: &mut Memory) -> Result<u32, BootError> {
    let (start, end) = (&raw const ap_trampoline, &raw const ap_trampoline_end);
    // SAFETY: the labels enclose the trampoline in the loader's read-only data.
    let code = unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    let page = memory.allocate_real_mode_page()?;
    page[..code.len()].copy_from_slice(code);
    Ok((page.as_ptr() as u64 / PAGE) as u32)
}

/// Waits for `cycles` of the time stamp counter, or until `done`.
fn delay(cycles: u64, done: impl Fn() -> bool) {
    // SAFETY: RDTSC is there on every CPU with long mode, and CR4.TSD matters to user mode only.
    let now = || unsafe { _rdtsc() };
    let start = now();
    while now().wrapping_sub(start) < cycles && !done() {
        spin_loop();
    }
}

/// The local APIC's registers (Intel SDM vol. 3A table 11-1).
struct LocalApic {
    registers: *mut u32,
}

impl LocalApic {
    /// The local APIC, if there is one that is on and in xAPIC mode, in which the firmware leaves
    /// it and the protocol's answer says that it is.
    fn find() -> Option<Self> {
        if __cpuid(1).edx & 1 << 9 == 0 {
            return None;
        }
        // SAFETY: a CPU with a local APIC has this register; reading it has no effect.
        let base = unsafe { Msr::new(APIC_BASE).read() };
        if base & APIC_ENABLED == 0 || base & X2APIC != 0 {
            return None;
        }
        // Above 4 GiB it would not be mapped; no firmware moves it.
        let address = usize::try_from(base & 0x000f_ffff_ffff_f000).ok().filter(|base| *base < 1 << 32)?;
        Some(Self { registers: address as *mut u32 })
    }

    fn id(&self) -> u8 {
        (self.read(0x20) >> 24) as u8
    }

    /// Sends an interrupt command to one CPU, and waits until it is sent.
    fn send(&self, to: u8, command: u32) {
        self.write(0x310, u32::from(to) << 24);
        self.write(0x300, command);
        while self.read(0x300) & ICR_PENDING != 0 {
            spin_loop();
        }
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: `registers` is where this CPU says that its local APIC is, all below 4 GiB is
        // mapped, and offsets here are those of registers, which are not memory.
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as for `read`; of the registers only the interrupt command is written.
        unsafe { self.registers.byte_add(offset).write_volatile(value) }
    }
}
