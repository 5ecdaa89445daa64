//! What the SelfTest capability gives. Nothing here is reachable without it.
//!
//! A probe runs one access under a rights word of the caller's choice while DEPTH is 1, in text that touches nothing
//! but registers and that one address; its fault arrives as a trap inside the kernel and is mended here. That text
//! writes PKRS and CR0 without a check, so it lies in the vault, where no domain can jump to it ([`vault`]).

/// The write of PKRS, listed in a table of the vault's own: nobody else knows of these.
macro_rules! write_pkrs {
    () => {
        pkrs_write!(".vault_pkrs_writes")
    };
}

mod kill;
mod leaf;
mod nest;
mod probe;
mod tamper;

use crate::arch::protection::{self, IA32_PKRS, live_pkrs, pkrs_number, pkrs_read, pkrs_write};
use crate::arch::record::Record;
use crate::arch::{apic, insn, power, window};
use crate::fault::PAGE_FAULT;
use crate::mem::{self, Mapping, UNKEYED_TEST_PAGE, vault};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use libpks::abi::Error;
use libpks::abi::selftest::SelfTestOp;
use libpks::pkey::{Pkey, Pkrs, Rights};
use libpks::table::Table;
use probe::Circumstances;

/// What came of an access; but for the value, [`mend`] fills it when it faults.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    value: u64,
    faulted: u64,
    vector: u64,
    error: u64,
    cr2: u64,
}

/// NMIs that this CPU has handled, and PKRS in the last handler.
static NMIS: AtomicU64 = AtomicU64::new(0);
static NMI_PKRS: AtomicU32 = AtomicU32::new(0);
/// Whether an NMI is expected, so that the word in its handler is noted.
static NMI_WATCHED: AtomicU32 = AtomicU32::new(0);

/// Called for every NMI.
pub(crate) fn note_nmi() {
    if NMI_WATCHED.load(Ordering::SeqCst) != 0 {
        NMI_PKRS.store(live_pkrs().raw(), Ordering::SeqCst);
    }
    NMIS.fetch_add(1, Ordering::SeqCst);
}

/// Writes the low and high half to PKRS and reads it back, then writes the kernel's word. Gives the value read;
/// #GP is mended.
///
/// # Safety
/// Keys are on; interrupts are off.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.text")]
unsafe extern "C" fn write_pkrs_raw(low: u32, high: u32) -> u64 {
    naked_asm!(
        "mov eax, edi",
        "mov edx, esi",
        pkrs_number!("mov ecx, {pkrs}"),
        "2:",
        write_pkrs!(),
        "3:",
        pkrs_number!("mov ecx, {pkrs}"),
        pkrs_read!(".vault_pkrs_reads"),
        "mov esi, eax",
        "mov rax, [{kernel}]",
        "xor edx, edx",
        write_pkrs!(),
        "mov rax, rsi",
        "ret",
        ".pushsection .fixups,\"a\"",
        ".quad 2b, 3b",
        ".popsection",
        pkrs = const IA32_PKRS,
        kernel = const window::KERNEL as i64,
    )
}

unsafe extern "C" {
    static __fixups: [u64; 2];
    static __fixups_end: [u64; 2];
}

/// The last mended fault, for the routine's caller.
static MENDED: spin::Mutex<Outcome> =
    spin::Mutex::new(Outcome { value: 0, faulted: 0, vector: 0, error: 0, cr2: 0 });

/// Lets a fault that a test provoked go on behind the access. Gives whether it was one.
pub(crate) fn mend(record: &mut Record) -> bool {
    // SAFETY: the linker script puts the symbols around one table of pairs.
    let fixups = unsafe {
        let (start, end) = (&raw const __fixups, &raw const __fixups_end);
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    };
    let offset = vault::offset();
    let at = record.rip.wrapping_sub(offset);
    if !matches!(record.vector, 3 | 13 | 14) {
        return false;
    }
    // A fetch faults at the address of the page, everything else in the vault.
    // A breakpoint alone traps behind itself; any other trap there is none that a test provoked.
    let fits =
        |&&[from, to]: &&[u64; 2]| (from == at || from == record.rip) && (record.vector == 3) == (from == to);
    let Some([_, landing]) = fixups.iter().find(fits) else { return false };
    if record.vector == 3 {
        nest::note_breakpoint();
    } else if let Some(mut mended) = MENDED.try_lock() {
        *mended = Outcome {
            value: 0,
            faulted: 1,
            vector: record.vector,
            error: record.error,
            cr2: insn::read_cr2(),
        };
    }
    record.rip = landing.wrapping_add(offset);
    true
}

/// Does an access again that an NMI came into: the NMI leaves with the kernel's word in force, so the access may have
/// been made under that.
fn retry_over_nmis(access_fn: impl Fn() -> Outcome) -> Outcome {
    loop {
        let nmis = NMIS.load(Ordering::SeqCst);
        *MENDED.lock() = Outcome::default();
        let outcome = access_fn();
        if NMIS.load(Ordering::SeqCst) == nmis {
            return outcome;
        }
    }
}

/// A rights word of the kind that is ever in force: none closes key 0.
///
/// # Errors
/// `InvalidArgument`.
fn word_from(word: u64) -> Result<Pkrs, Error> {
    let word = Pkrs::from_raw(u32::try_from(word).map_err(|_| Error::InvalidArgument)?);
    if word.rights(Pkey::OPEN) == Rights::ReadWrite { Ok(word) } else { Err(Error::InvalidArgument) }
}

type WriteRaw = unsafe extern "C" fn(u32, u32) -> u64;

impl Kernel {
    /// An operation of the SelfTest capability; the caller has been found to hold it.
    ///
    /// # Errors
    /// `InvalidArgument`, `KeysUnsupported` for what needs keys, `NotFound`, `Unsupported`.
    pub(crate) fn selftest(
        &mut self,
        thread: Ref<Thread>,
        op: SelfTestOp,
        args: [u64; 6],
    ) -> Result<[u64; 8], Error> {
        match op {
            SelfTestOp::Probe => self.probe(thread, args, Circumstances::Usual),
            SelfTestOp::ProbeWithoutWriteProtect => {
                self.probe(thread, args, Circumstances::WithoutWriteProtect)
            }
            SelfTestOp::ProbeWithoutKeys => self.probe(thread, args, Circumstances::WithoutKeys),
            SelfTestOp::LeafAccess => self.leaf_access(thread, args),
            SelfTestOp::SetLeafKey => self.set_leaf_key(thread, args[0], args[1]),
            SelfTestOp::SetWord => self.set_word(thread, args[0]),
            SelfTestOp::ReadPkrs => self.read_pkrs_of(thread, args[0]),
            SelfTestOp::UnkeyedPage => self.unkeyed_page(args[0] != 0, args[1]),
            SelfTestOp::WalkPageTable => self.walk_page_table(thread, args[0]),
            SelfTestOp::NestedTrap => self.nested_trap(args),
            SelfTestOp::Overflow => self.overflow(args[0]),
            SelfTestOp::WritePkrsRaw => self.write_raw(args[0], args[1]),
            SelfTestOp::Counters => self.counters(args[0]),
            SelfTestOp::Nmi => self.nmi(args[0]),
            SelfTestOp::Kill => self.kill_domain(args[0]),
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

    /// Has an access made under a rights word, in the view of whoever asks. Its error code is as keys would have it.
    fn under(
        &mut self,
        thread: Ref<Thread>,
        word: Pkrs,
        access_fn: impl FnOnce(u64) -> Outcome,
    ) -> Result<Outcome, Error> {
        let domain = self.seat(thread).domain;
        let outcome = self.with_value_of(domain, word, access_fn)?;
        if !protection::in_force().has_roots() || outcome.vector != PAGE_FAULT {
            return Ok(outcome);
        }
        let error = self.error_by_keys(domain, word, outcome.cr2, outcome.error);
        Ok(Outcome { error, ..outcome })
    }

    /// What only a register of rights can do.
    fn need_keys(&self) -> Result<(), Error> {
        if protection::in_force().has_roots() { Err(Error::KeysUnsupported) } else { Ok(()) }
    }

    /// The word of the domain that a CPU runs, as its records have it; the live word in the kernel; CR4.
    fn read_pkrs_of(&mut self, thread: Ref<Thread>, cpu: u64) -> Result<[u64; 8], Error> {
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
            u64::from(live_pkrs().raw()),
            insn::read_cr4(),
            u64::from(books.raw()),
            0,
            0,
            0,
            0,
        ])
    }

    fn unkeyed_page(&mut self, map: bool, key: u64) -> Result<[u64; 8], Error> {
        let key = u8::try_from(key).ok().and_then(Pkey::new).ok_or(Error::InvalidArgument)?;
        if map {
            self.map_fresh_page(UNKEYED_TEST_PAGE, Mapping { unkeyed: true, ..Mapping::data(key) })?;
        } else {
            self.unmap_range(UNKEYED_TEST_PAGE, 1);
        }
        Ok([UNKEYED_TEST_PAGE, 0, 0, 0, 0, 0, 0, 0])
    }

    /// As the domain's view has it.
    fn walk_page_table(&mut self, thread: Ref<Thread>, address: u64) -> Result<[u64; 8], Error> {
        let leaf = self.walk_as(self.seat(thread).domain, address).ok_or(Error::NotFound)?;
        Ok([leaf.entry, u64::from(leaf.level), u64::from(!leaf.is_keyed()), 0, 0, 0, 0, 0])
    }

    fn write_raw(&mut self, low: u64, high: u64) -> Result<[u64; 8], Error> {
        self.need_keys()?;
        // Key 0 and the kernel's own must stay open for the routine to come back.
        if low & 0xf != 0 {
            return Err(Error::InvalidArgument);
        }
        *MENDED.lock() = Outcome::default();
        // SAFETY: keys are on, interrupts are off; #GP is mended.
        let read = vault::run(write_pkrs_raw as WriteRaw, |write| unsafe { write(low as u32, high as u32) });
        let mended = *MENDED.lock();
        Ok([mended.faulted, read, u64::from(live_pkrs().raw()), 0, 0, 0, 0, 0])
    }

    fn counters(&mut self, cpu: u64) -> Result<[u64; 8], Error> {
        let cpu = u32::try_from(cpu).map_err(|_| Error::InvalidArgument)?;
        let books = self.cpus.get(cpu).ok_or(Error::InvalidArgument)?;
        Ok([books.switches, books.pkrs_writes, books.entries, 0, 0, 0, 0, 0])
    }

    /// An NMI to a CPU, and its end.
    fn nmi(&mut self, cpu: u64) -> Result<[u64; 8], Error> {
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
        Ok([u64::from(inner), u64::from(live_pkrs().raw()), 0, 0, 0, 0, 0, 0])
    }
}
