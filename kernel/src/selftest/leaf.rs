//! Accesses through a leaf of any size, and fetches: a page is mapped, accessed once and unmapped within one operation,
//! so that nothing of it is left whatever becomes of who asked.

use super::{MENDED, Outcome, probe, word_from};
use crate::arch::protection::{IA32_PKRS, pkrs_number, pkrs_write};
use crate::arch::window;
use crate::mem::{self, LEAF_TEST, Mapping, PAGE, vault};
use crate::object::Ref;
use crate::state::Kernel;
use crate::thread::Thread;
use core::arch::naked_asm;
use core::arch::x86_64::__cpuid;
use libpks::abi::Error;
use libpks::abi::selftest::LEAF_EXECUTABLE;
use libpks::pkey::Pkey;

/// Bytes of address space between the test pages of two sizes.
const SPAN: u64 = 1 << 30;
/// What `access` says for a fetch.
const FETCH: u64 = 2;
/// MOV EAX, imm32 and JMP RDX, around the immediate.
const MOV_EAX: u8 = 0xb8;
const JMP_RDX: [u8; 2] = [0xff, 0xe2];

/// Jumps to the test page under a word, and comes back through RDX or, when the fetch faults, through the table of
/// fix-ups. RDI the address, RSI what is written for the word, RDX where EAX goes that the page has set, or 0.
///
/// # Safety
/// Interrupts are off; at the address lies the code that [`code`] makes, or a page whose fetch faults.
#[unsafe(naked)]
#[unsafe(link_section = ".vault.text")]
unsafe extern "C" fn fetch_page(address: u64, word: u64, value: *mut u64) {
    naked_asm!(
        "push rbx",
        "mov rbx, rdx",
        "mov rax, rsi",
        pkrs_number!("mov ecx, {pkrs}"),
        "xor edx, edx",
        write_pkrs!(),
        "lea rdx, [rip + 2f]",
        "xor eax, eax",
        // No CALL: the word may close the stack.
        "jmp rdi",
        "2:",
        "mov r9, rax",
        "mov rax, [{kernel}]",
        pkrs_number!("mov ecx, {pkrs}"),
        "xor edx, edx",
        write_pkrs!(),
        "mov [rbx], r9",
        "pop rbx",
        "ret",
        ".pushsection .fixups,\"a\"",
        ".quad {page}, 2b",
        ".popsection",
        pkrs = const IA32_PKRS,
        kernel = const window::KERNEL as i64,
        page = const LEAF_TEST as i64,
    )
}

type FetchPage = unsafe extern "C" fn(u64, u64, *mut u64);

/// What is in the page before the access.
fn code(value: u32) -> [u8; 8] {
    let [a, b, c, d] = value.to_le_bytes();
    [MOV_EAX, a, b, c, d, JMP_RDX[0], JMP_RDX[1], 0xcc]
}

/// Whether this CPU has leaves of 1 GiB: CPUID.80000001H:EDX[26].
fn has_gib_pages() -> bool {
    __cpuid(0x8000_0000).eax >= 0x8000_0001 && __cpuid(0x8000_0001).edx & (1 << 26) != 0
}

impl Kernel {
    /// See [`libpks::abi::selftest::SelfTestOp::LeafAccess`].
    pub(super) fn leaf_access(
        &mut self,
        thread: Ref<Thread>,
        [shape, key, word, access, value, _]: [u64; 6],
    ) -> Result<[u64; 8], Error> {
        let (level, executable) = (shape & 0xff, shape & LEAF_EXECUTABLE != 0);
        let key = u8::try_from(key).ok().and_then(Pkey::new).ok_or(Error::InvalidArgument)?;
        let word = word_from(word)?;
        let level = u8::try_from(level).ok().filter(|level| (1..=3).contains(level));
        let level = level.ok_or(Error::InvalidArgument)?;
        // A large page shows memory of others too: never executable, and only to who has a key that nobody has open.
        if access > FETCH || (level > 1 && (executable || access == FETCH)) || key <= Pkey::KERNEL {
            return Err(Error::InvalidArgument);
        }
        if level == 3 && !has_gib_pages() {
            return Err(Error::Unsupported);
        }
        let mapping = Mapping { executable, writable: !executable, ..Mapping::data(key) };
        let bytes = PAGE << (9 * (u64::from(level) - 1));
        let base = LEAF_TEST + u64::from(level - 1) * SPAN;
        let frame = mem::with(|memory| {
            let frame = memory.allocate_frame().map_err(|_| Error::OutOfMemory)?;
            let mapped = memory.map_leaf(base, frame & !(bytes - 1), level, mapping);
            mapped.map(|()| frame).map_err(|_| {
                memory.release_frame(frame);
                Error::OutOfMemory
            })
        })?;
        let address = base + (frame & (bytes - 1));
        let content = if access == FETCH { code(value as u32) } else { before(access, value).to_le_bytes() };
        mem::copy_to_frame(frame, 0, &content);
        let outcome = self.under(thread, word, |written| {
            if access == FETCH {
                fetch(address, written)
            } else {
                probe::access(address, written, access as u32, value, probe::Circumstances::Usual)
            }
        });
        let leaf = mem::with(|memory| memory.tables.walk(address));
        let mut after = [0; 8];
        mem::copy_from_frame(frame, 0, &mut after);
        mem::with(|memory| memory.tables.remove_leaf(base));
        self.invalidate(address, 1);
        mem::with(|memory| memory.release_frame(frame));
        let leaf = leaf.ok_or(Error::NotFound)?;
        let memory = u64::from_le_bytes(after);
        let Outcome { value, faulted, error, cr2, .. } = outcome?;
        Ok([faulted, error, cr2, value, leaf.entry, u64::from(leaf.level), memory, address])
    }
}

/// A read must find the value, a write must have something to change.
fn before(access: u64, value: u64) -> u64 {
    if access == 0 { value } else { !value }
}

fn fetch(address: u64, written: u64) -> Outcome {
    super::retry_over_nmis(|| {
        let mut value = 0;
        // SAFETY: interrupts are off in the kernel; the page holds code that comes back, or cannot be executed.
        vault::run(fetch_page as FetchPage, |fetch| unsafe { fetch(address, written, &raw mut value) });
        Outcome { value, ..*MENDED.lock() }
    })
}
