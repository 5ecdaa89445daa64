//! What the SelfTest capability gives. Nothing here is reachable without it.
//!
//! A probe runs one access under a rights word of the caller's choice while DEPTH is 1, in text that touches nothing
//! but registers and that one address; its fault arrives as a trap inside the kernel and is mended here. That text
//! writes PKRS and CR0 without a check, so it lies in the vault, where no domain can jump to it ([`in_vault`]).

use crate::arch::record::Record;
use crate::arch::{apic, insn, power, window};
use crate::mem::{self, Mapping, USER_TEST_PAGE};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use crate::trap::live_pkrs;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use libpks::abi::Error;
use libpks::abi::selftest::SelfTestOp;
use libpks::pkey::{Pkey, Pkrs};
use libpks::table::Table;

/// What the probe's routine leaves. Filled by [`mend`] when it faults.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Outcome {
    value: u64,
    faulted: u64,
    error: u64,
    cr2: u64,
}

/// NMIs that this CPU has handled, and PKRS in the last handler.
static NMIS: AtomicU64 = AtomicU64::new(0);
static NMI_PKRS: AtomicU32 = AtomicU32::new(0);
/// Whether an NMI is expected, so that PKRS may be read in its handler (only CPUs with PKS have it).
static NMI_WATCHED: AtomicU32 = AtomicU32::new(0);
/// PKRS inside a provoked nested trap.
static NESTED_PKRS: AtomicU32 = AtomicU32::new(0);

/// Called for every NMI.
pub(crate) fn note_nmi() {
    if NMI_WATCHED.load(Ordering::SeqCst) != 0 {
        NMI_PKRS.store(live_pkrs(true).raw(), Ordering::SeqCst);
    }
    NMIS.fetch_add(1, Ordering::SeqCst);
}

/// One access under a rights word, and back under the kernel's. RDI the address, ESI the word, EDX 0 to read and 1 to
/// write, RCX the value, R8 the outcome, R9D CR0 for the access and R10 CR0 afterwards, or 0 for no change.
///
/// # Safety
/// PKS is on; interrupts are off; the address may be anything, because a fault is mended.
#[unsafe(naked)]
#[unsafe(link_section = ".selftest.text")]
unsafe extern "C" fn probe_access(
    address: u64,
    word: u32,
    write: u32,
    value: u64,
    outcome: *mut Outcome,
    cr0: u64,
) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "mov rbx, rcx",          // the value
        "mov r11d, edx",         // read or write
        "mov r10, cr0",
        "mov rbp, r10",
        "test r9, r9",
        "jz 2f",
        "mov cr0, r9",
        "2:",
        "mov eax, esi",
        "mov ecx, {pkrs}",
        "xor edx, edx",
        "wrmsr",
        "test r11d, r11d",
        "jnz 3f",
        "4:",
        "mov rbx, [rdi]",
        "jmp 5f",
        "3:",
        "6:",
        "mov [rdi], rbx",
        "5:",
        "mov eax, {kernel}",
        "mov ecx, {pkrs}",
        "xor edx, edx",
        "wrmsr",
        "mov cr0, rbp",
        "mov [r8], rbx",
        "pop rbp",
        "pop rbx",
        "ret",
        // A fault at either access continues at 5, after `mend` has noted it.
        ".pushsection .fixups,\"a\"",
        ".quad 4b, 5b",
        ".quad 6b, 5b",
        ".popsection",
        pkrs = const crate::arch::entry::IA32_PKRS,
        kernel = const Pkrs::KERNEL.raw(),
    )
}

/// Writes the low and high half to IA32_PKRS and reads it back, then writes the kernel's word. Gives the value read;
/// #GP is mended.
///
/// # Safety
/// PKS is on; interrupts are off.
#[unsafe(naked)]
#[unsafe(link_section = ".selftest.text")]
unsafe extern "C" fn write_pkrs_raw(low: u32, high: u32) -> u64 {
    naked_asm!(
        "mov eax, edi",
        "mov edx, esi",
        "mov ecx, {pkrs}",
        "2: wrmsr",
        "3:",
        "mov ecx, {pkrs}",
        "rdmsr",
        "mov esi, eax",
        "mov eax, {kernel}",
        "xor edx, edx",
        "wrmsr",
        "mov rax, rsi",
        "ret",
        ".pushsection .fixups,\"a\"",
        ".quad 2b, 3b",
        ".popsection",
        pkrs = const crate::arch::entry::IA32_PKRS,
        kernel = const Pkrs::KERNEL.raw(),
    )
}

/// A breakpoint inside the kernel.
///
/// # Safety
/// At depth 1; [`mend`] lets it go on.
#[unsafe(naked)]
#[unsafe(link_section = ".selftest.text")]
unsafe extern "C" fn breakpoint() {
    naked_asm!(
        "2: int3",
        "3: ret",
        ".pushsection .fixups,\"a\"",
        ".quad 3b, 3b", // INT3 is a trap: RIP is behind it
        ".popsection",
    )
}

unsafe extern "C" {
    static __fixups: [u64; 2];
    static __fixups_end: [u64; 2];
}

/// The last mended fault, for the routine's caller.
static MENDED: spin::Mutex<Outcome> = spin::Mutex::new(Outcome { value: 0, faulted: 0, error: 0, cr2: 0 });

/// Lets a fault that a test provoked go on behind the access. Gives whether it was one.
pub(crate) fn mend(record: &mut Record) -> bool {
    // SAFETY: the linker script puts the symbols around one table of pairs.
    let fixups = unsafe {
        let (start, end) = (&raw const __fixups, &raw const __fixups_end);
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    };
    let offset = mem::vault_offset();
    let at = record.rip.wrapping_sub(offset);
    if !matches!(record.vector, 3 | 13 | 14) {
        return false;
    }
    let Some([_, landing]) = fixups.iter().find(|fixup| fixup[0] == at) else { return false };
    if record.vector == 3 {
        NESTED_PKRS.store(live_pkrs(true).raw(), Ordering::SeqCst);
    } else if let Some(mut mended) = MENDED.try_lock() {
        *mended = Outcome { value: 0, faulted: 1, error: record.error, cr2: insn::read_cr2() };
    }
    record.rip = landing.wrapping_add(offset);
    true
}

/// Calls a routine of the vault's text, which is position-independent assembly, in the vault of this CPU. `F` is the routine's type, a function pointer.
pub(crate) fn in_vault<F: Copy, R>(routine: F, call_fn: impl FnOnce(F) -> R) -> R {
    const { assert!(size_of::<F>() == size_of::<u64>()) };
    // SAFETY: a function pointer has the size of its address and may have any value while it is not called.
    let linked = unsafe { core::mem::transmute_copy::<F, u64>(&routine) };
    let moved = linked.wrapping_add(mem::vault_offset());
    // SAFETY: the vault shows the same frame; the routines are assembly that refers to itself by distance only. It is
    // called below, while the vault is open.
    let there = unsafe { core::mem::transmute_copy::<u64, F>(&moved) };
    mem::open_vault(|| call_fn(there))
}

type Probe = unsafe extern "C" fn(u64, u32, u32, u64, *mut Outcome, u64);
type WriteRaw = unsafe extern "C" fn(u32, u32) -> u64;
type Breakpoint = unsafe extern "C" fn();

impl Kernel {
    /// An operation of the SelfTest capability; the caller has been found to hold it.
    ///
    /// # Errors
    /// `InvalidArgument`, `KeysUnsupported` for what needs PKS, `NotFound`, `Unsupported`.
    pub(crate) fn selftest(
        &mut self,
        thread: Ref<Thread>,
        op: SelfTestOp,
        args: [u64; 6],
    ) -> Result<[u64; 8], Error> {
        match op {
            SelfTestOp::Probe => self.probe(args, false),
            SelfTestOp::ProbeWithoutWriteProtect => self.probe(args, true),
            SelfTestOp::ReadPkrs => self.read_pkrs_of(thread, args[0]),
            SelfTestOp::UserPage => self.user_page(args[0] != 0, args[1]),
            SelfTestOp::WalkPageTable => self.walk_page_table(args[0]),
            SelfTestOp::NestedTrap => self.nested_trap(),
            SelfTestOp::WritePkrsRaw => self.write_raw(args[0], args[1]),
            SelfTestOp::Counters => self.counters(args[0]),
            SelfTestOp::Nmi => self.nmi(args[0]),
            SelfTestOp::Audit => {
                let audit = mem::audit::run(self, crate::roots());
                Ok([audit.pages, audit.broken, 0, 0, 0, 0, 0, 0])
            }
            SelfTestOp::Exit => {
                power::debug_exit(args[0] as u32);
                Err(Error::Unsupported)
            }
        }
    }

    fn need_pks(&self) -> Result<(), Error> {
        if self.pks { Ok(()) } else { Err(Error::KeysUnsupported) }
    }

    fn probe(
        &mut self,
        [address, word, access, value, ..]: [u64; 6],
        without_write_protect: bool,
    ) -> Result<[u64; 8], Error> {
        self.need_pks()?;
        let word = u32::try_from(word).map_err(|_| Error::InvalidArgument)?;
        // The probe runs on the kernel's stack and must be able to come back.
        if access > 1 || Pkrs::from_raw(word).rights(Pkey::OPEN) != libpks::pkey::Rights::ReadWrite {
            return Err(Error::InvalidArgument);
        }
        let mut outcome = Outcome::default();
        let cr0 = if without_write_protect { cr0_without_write_protect() } else { 0 };
        loop {
            let nmis = NMIS.load(Ordering::SeqCst);
            *MENDED.lock() = Outcome::default();
            // SAFETY: PKS is on, interrupts are off in the kernel; whatever the address is, its fault is mended. What a
            // write changes is the test's affair: the capability is there for that.
            in_vault(probe_access as Probe, |probe| unsafe {
                probe(address, word, access as u32, value, &raw mut outcome, cr0);
            });
            // An NMI leaves with the kernel's word in force, so the access may have been made under that: once more.
            if NMIS.load(Ordering::SeqCst) == nmis {
                break;
            }
        }
        let mended = *MENDED.lock();
        Ok([mended.faulted, mended.error, mended.cr2, outcome.value, 0, 0, 0, 0])
    }

    /// The word of the domain that a CPU runs, as its records have it; the live word in the kernel; CR4.
    fn read_pkrs_of(&mut self, thread: Ref<Thread>, cpu: u64) -> Result<[u64; 8], Error> {
        self.need_pks()?;
        let here = window::cpu();
        if cpu != here as u64 {
            return if cpu < u64::from(self.cpus.len()) {
                Err(Error::WrongState)
            } else {
                Err(Error::InvalidArgument)
            };
        }
        let recorded = window::cell();
        let books = self.seat(thread).word;
        Ok([
            u64::from(recorded.raw()),
            u64::from(live_pkrs(true).raw()),
            insn::read_cr4(),
            u64::from(books.raw()),
            0,
            0,
            0,
            0,
        ])
    }

    fn user_page(&mut self, map: bool, key: u64) -> Result<[u64; 8], Error> {
        let key = u8::try_from(key).ok().and_then(Pkey::new).ok_or(Error::InvalidArgument)?;
        if map {
            self.map_fresh_page(USER_TEST_PAGE, Mapping::data(key))?;
        } else {
            self.unmap_range(USER_TEST_PAGE, 1);
        }
        Ok([USER_TEST_PAGE, 0, 0, 0, 0, 0, 0, 0])
    }

    fn walk_page_table(&mut self, address: u64) -> Result<[u64; 8], Error> {
        let leaf = mem::with(|memory| memory.tables.walk(address)).ok_or(Error::NotFound)?;
        Ok([leaf.entry, u64::from(leaf.level), u64::from(leaf.user), 0, 0, 0, 0, 0])
    }

    fn nested_trap(&mut self) -> Result<[u64; 8], Error> {
        self.need_pks()?;
        let before = live_pkrs(true).raw();
        NESTED_PKRS.store(0, Ordering::SeqCst);
        // SAFETY: at depth 1; the breakpoint is in the table of fix-ups.
        in_vault(breakpoint as Breakpoint, |breakpoint| unsafe { breakpoint() });
        let (inner, after) = (NESTED_PKRS.load(Ordering::SeqCst), live_pkrs(true).raw());
        Ok([u64::from(before), u64::from(inner), u64::from(after), 0, 0, 0, 0, 0])
    }

    fn write_raw(&mut self, low: u64, high: u64) -> Result<[u64; 8], Error> {
        self.need_pks()?;
        // Key 0 and the kernel's own must stay open for the routine to come back.
        if low & 0xf != 0 {
            return Err(Error::InvalidArgument);
        }
        *MENDED.lock() = Outcome::default();
        // SAFETY: PKS is on, interrupts are off; #GP is mended.
        let read = in_vault(write_pkrs_raw as WriteRaw, |write| unsafe { write(low as u32, high as u32) });
        let mended = *MENDED.lock();
        Ok([mended.faulted, read, u64::from(live_pkrs(true).raw()), 0, 0, 0, 0, 0])
    }

    fn counters(&mut self, cpu: u64) -> Result<[u64; 8], Error> {
        let cpu = u32::try_from(cpu).map_err(|_| Error::InvalidArgument)?;
        let books = self.cpus.get(cpu).ok_or(Error::InvalidArgument)?;
        Ok([books.switches, books.pkrs_writes, books.entries, 0, 0, 0, 0, 0])
    }

    /// An NMI to a CPU, and its end.
    fn nmi(&mut self, cpu: u64) -> Result<[u64; 8], Error> {
        self.need_pks()?;
        let cpu = u32::try_from(cpu).map_err(|_| Error::InvalidArgument)?;
        let apic_id = self.cpus.get(cpu).ok_or(Error::InvalidArgument)?.apic_id;
        let before = NMIS.load(Ordering::SeqCst);
        NMI_WATCHED.store(1, Ordering::SeqCst);
        apic::send_nmi(apic_id);
        while NMIS.load(Ordering::SeqCst) == before {
            core::hint::spin_loop();
        }
        NMI_WATCHED.store(0, Ordering::SeqCst);
        let inner = NMI_PKRS.load(Ordering::SeqCst);
        Ok([u64::from(inner), u64::from(live_pkrs(true).raw()), 0, 0, 0, 0, 0, 0])
    }
}

/// CR0 as it is, but for WP.
fn cr0_without_write_protect() -> u64 {
    use x86_64::registers::control::Cr0Flags;
    let flags = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::EMULATE_COPROCESSOR
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::PAGING;
    flags.bits()
}
