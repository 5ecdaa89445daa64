//! Entry and exit: the only code that runs with the kernel's rights word before the kernel knows what happened.
//!
//! A domain runs in ring 0 and may jump to any byte here, with any register, stack and forged trap frame. So:
//!
//! 1. A stub saves three registers at constant addresses of its slot, never by PUSH, writes the kernel's word, which it
//!    has from memory that no domain can write, and believes nothing that it carried across that write: not RSP, not the slot. What is copied into the record
//!    afterwards is an allegation against the current thread.
//! 2. The instructions that run with the kernel's word while DEPTH is 0 are listed in the section
//!    `.kernel_word_ranges`. Each is safe to start with arbitrary registers: constant addresses, no RSP, no pointer
//!    from a register, and every way out passes a check or commits DEPTH.
//! 3. DEPTH leaves 0 only here, after the check; while it is not 0, PKRS is the kernel's word.
//! 4. Every exit to a domain writes CELL, checks CELL and `*TOPP` again after the WRMSR, and returns by IRETQ.
//! 5. Only an NMI may resume such a range with the kernel's word.
//!
//! docs/traps.md argues why this holds. Every site that reads or writes PKRS is listed in `.pkrs_reads` and
//! `.pkrs_writes`, its number in `.pkrs_numbers`, so that a CPU with PKU or without keys gets them replaced before the
//! first trap.

use super::gdt::{KERNEL_CODE, KERNEL_DATA};
use super::protection::{IA32_PKRS, pkrs_number, pkrs_read, pkrs_write};
use crate::ipc::passage::{self, CONNECTIONS, Connection, Frame, Passage};
use core::arch::naked_asm;
use core::mem::offset_of;
use libpks::abi::layout;

/// Saves the registers that WRMSR needs.
macro_rules! save3 {
    ($slot:literal) => {
        concat!(
            "mov [.L",
            $slot,
            "-64], rax\n",
            "mov [.L",
            $slot,
            "-72], rcx\n",
            "mov [.L",
            $slot,
            "-80], rdx\n",
        )
    };
}

/// Takes them back and leaves nothing of them in memory that the next domain could read.
macro_rules! load3 {
    ($slot:literal) => {
        concat!(
            "mov rdx, [.L",
            $slot,
            "-80]\n",
            "mov rcx, [.L",
            $slot,
            "-72]\n",
            "mov rax, [.L",
            $slot,
            "-64]\n",
            "mov qword ptr [.L",
            $slot,
            "-80], 0\n",
            "mov qword ptr [.L",
            $slot,
            "-72], 0\n",
            "mov qword ptr [.L",
            $slot,
            "-64], 0\n",
        )
    };
}

/// The write of PKRS, listed.
macro_rules! write_pkrs {
    () => {
        pkrs_write!(".pkrs_writes")
    };
}

/// The live PKRS into the slot, as evidence, and the kernel's word into RAX for the write that follows.
macro_rules! take_evidence {
    ($slot:literal) => {
        concat!(
            pkrs_number!("mov ecx, .LPKRS"),
            pkrs_read!(".pkrs_reads"),
            "mov [.L",
            $slot,
            "-88], eax\n",
            "xor edx, edx\n",
            "mov rax, [.LKERNEL]\n",
        )
    };
}

/// After a write: RAX must still be what the books say, ECX the number of PKRS, or somebody jumped here.
macro_rules! bad_unless_written {
    ($word:literal) => {
        concat!("cmp rax, ", $word, "\njne {gate_bad}\n", pkrs_number!("cmp ecx, .LPKRS"), "jne {gate_bad}\n")
    };
}

/// Begins an instruction range that runs with the kernel's word while DEPTH is 0.
macro_rules! range_begin {
    () => {
        "772:\n"
    };
}

/// Ends it and lists it.
macro_rules! range_end {
    () => {
        "773:\n.pushsection .kernel_word_ranges,\"a\"\n.quad 772b, 773b\n.popsection\n"
    };
}

/// The way into the kernel from a domain: writes the kernel's word, which is in RAX, checks it, and commits DEPTH. At
/// DEPTH > 0 it goes to `nested` instead.
macro_rules! write_and_commit {
    () => {
        concat!(
            write_pkrs!(),
            range_begin!(),
            bad_unless_written!("[.LKERNEL]"),
            "lfence\n",
            "cli\n",
            "cmp dword ptr [.LDEPTH], 0\n",
            "jne {nested}\n",
            "mov dword ptr [.LDEPTH], 1\n",
            range_end!(),
        )
    };
}

/// RSP and flags from constants: TF, NT, DF, AC are gone.
macro_rules! own_stack {
    ($stack:literal) => {
        concat!("mov rsp, .L", $stack, "\npush 2\npopfq\n")
    };
}

/// The registers that no stub needs for itself, into the record at an address.
macro_rules! save_rest {
    ($record:literal) => {
        concat!(
            "mov [",
            $record,
            "+.LrRBX], rbx\n",
            "mov [",
            $record,
            "+.LrRBP], rbp\n",
            "mov [",
            $record,
            "+.LrRSI], rsi\n",
            "mov [",
            $record,
            "+.LrRDI], rdi\n",
            "mov [",
            $record,
            "+.LrR8], r8\n",
            "mov [",
            $record,
            "+.LrR9], r9\n",
            "mov [",
            $record,
            "+.LrR10], r10\n",
            "mov [",
            $record,
            "+.LrR11], r11\n",
            "mov [",
            $record,
            "+.LrR12], r12\n",
            "mov [",
            $record,
            "+.LrR13], r13\n",
            "mov [",
            $record,
            "+.LrR14], r14\n",
            "mov [",
            $record,
            "+.LrR15], r15\n",
        )
    };
}

/// And back.
macro_rules! load_rest {
    ($record:literal) => {
        concat!(
            "mov rbx, [",
            $record,
            "+.LrRBX]\n",
            "mov rbp, [",
            $record,
            "+.LrRBP]\n",
            "mov rsi, [",
            $record,
            "+.LrRSI]\n",
            "mov rdi, [",
            $record,
            "+.LrRDI]\n",
            "mov r8, [",
            $record,
            "+.LrR8]\n",
            "mov r9, [",
            $record,
            "+.LrR9]\n",
            "mov r10, [",
            $record,
            "+.LrR10]\n",
            "mov r11, [",
            $record,
            "+.LrR11]\n",
            "mov r12, [",
            $record,
            "+.LrR12]\n",
            "mov r13, [",
            $record,
            "+.LrR13]\n",
            "mov r14, [",
            $record,
            "+.LrR14]\n",
            "mov r15, [",
            $record,
            "+.LrR15]\n",
        )
    };
}

/// What the CPU and the stub put into a slot, into a record; then scrubs the slot, so that the next domain reads
/// none of it. Uses RAX.
macro_rules! take_slot {
    ($slot:literal, $record:literal) => {
        concat!(
            "mov rax, [.L",
            $slot,
            "-64]\nmov [",
            $record,
            "+.LrRAX], rax\n",
            "mov rax, [.L",
            $slot,
            "-72]\nmov [",
            $record,
            "+.LrRCX], rax\n",
            "mov rax, [.L",
            $slot,
            "-80]\nmov [",
            $record,
            "+.LrRDX], rax\n",
            "mov rax, [.L",
            $slot,
            "-48]\nmov [",
            $record,
            "+.LrERR], rax\n",
            "mov rax, [.L",
            $slot,
            "-40]\nmov [",
            $record,
            "+.LrRIP], rax\n",
            "mov rax, [.L",
            $slot,
            "-32]\nmov [",
            $record,
            "+.LrCS], rax\n",
            "mov rax, [.L",
            $slot,
            "-24]\nmov [",
            $record,
            "+.LrFL], rax\n",
            "mov rax, [.L",
            $slot,
            "-16]\nmov [",
            $record,
            "+.LrRSP], rax\n",
            "mov rax, [.L",
            $slot,
            "-8]\nmov [",
            $record,
            "+.LrSS], rax\n",
            "mov eax, [.L",
            $slot,
            "-88]\nmov [",
            $record,
            "+.LrPK], rax\n",
            "movzx eax, byte ptr [.L",
            $slot,
            "-96]\nmov [",
            $record,
            "+.LrVEC], rax\n",
            "xor eax, eax\n",
            "mov [.L",
            $slot,
            "-64], rax\nmov [.L",
            $slot,
            "-72], rax\nmov [.L",
            $slot,
            "-80], rax\n",
            "mov [.L",
            $slot,
            "-40], rax\nmov [.L",
            $slot,
            "-24], rax\nmov [.L",
            $slot,
            "-16], rax\n",
            "mov [.L",
            $slot,
            "-88], rax\n",
            "mov qword ptr [.L",
            $slot,
            "-48], .LNOERR\n",
        )
    };
}

/// A frame for IRETQ in a slot, from a record: CS and SS are constants, the flags are masked by the mask and the
/// bits given.
macro_rules! put_slot {
    ($slot:literal, $record:literal, $keep:literal, $set:literal) => {
        concat!(
            "mov rax, [",
            $record,
            "+.LrRIP]\nmov [.L",
            $slot,
            "-40], rax\n",
            "mov qword ptr [.L",
            $slot,
            "-32], .LCS\n",
            "mov rax, [",
            $record,
            "+.LrFL]\nand eax, ",
            $keep,
            "\nor eax, ",
            $set,
            "\n",
            "mov [.L",
            $slot,
            "-24], rax\n",
            "mov rax, [",
            $record,
            "+.LrRSP]\nmov [.L",
            $slot,
            "-16], rax\n",
            "mov qword ptr [.L",
            $slot,
            "-8], .LSS\n",
            "mov rax, [",
            $record,
            "+.LrRAX]\nmov [.L",
            $slot,
            "-64], rax\n",
            "mov rax, [",
            $record,
            "+.LrRCX]\nmov [.L",
            $slot,
            "-72], rax\n",
            "mov rax, [",
            $record,
            "+.LrRDX]\nmov [.L",
            $slot,
            "-80], rax\n",
        )
    };
}

/// The way out to a domain: its word from CELL, checked after the write; EDX is 0 again before the compare with
/// `*TOPP`. RCX and RDX are free.
macro_rules! write_cell {
    () => {
        concat!("mov rax, [.LCELL]\n", pkrs_number!("mov ecx, .LPKRS"), "xor edx, edx\n", write_pkrs!(),)
    };
}

/// Checks after [`write_cell`].
macro_rules! check_cell {
    () => {
        concat!(
            bad_unless_written!("[.LCELL]"),
            "mov rcx, [.LTOPP]\nmov rdx, [.LTOPV]\ncmp [rcx], rdx\njne {gate_bad}\n",
        )
    };
}

/// A naked function in a section of the entry code, with the constants of the layout as assembler symbols.
macro_rules! stub {
    ($(#[$meta:meta])* $section:literal $name:ident [$($sym:ident = $target:path),*] $($line:expr),+ $(,)?) => {
        $(#[$meta])*
        #[unsafe(naked)]
        #[unsafe(link_section = $section)]
        pub(crate) unsafe extern "C" fn $name() -> ! {
            naked_asm!(
                ".set .LS1, {s1}\n.set .LS2, {s2}\n.set .LS3, {s3}\n.set .LS4, {s4}\n.set .LS5, {s5}\n.set .LS6, {s6}",
                ".set .LPKRS, {pkrs}\n.set .LKERNEL, {kernel}\n.set .LCELL, {cell}\n.set .LTOPP, {topp}\n.set .LTOPV, {topv}",
                ".set .LDEPTH, {depth}\n.set .LNMIBUSY, {nmi_busy}\n.set .LNMIFORGED, {nmi_forged}\n.set .LNMIMODE, {nmi_mode}",
                ".set .LREC, {rec}\n.set .LNMIREC, {nmi_rec}\n.set .LXREC, {nest_rec}\n.set .LXSHIFT, {nest_shift}",
                ".set .LDEEPEST, {deepest}",
                ".set .LKSTK, {kstk}\n.set .LNSTK, {nstk}\n.set .LDEEPSTK, {deep_stk}",
                ".set .LCS, {cs}\n.set .LSS, {ss}\n.set .LNOERR, {no_error}",
                ".set .LrRAX, {r_rax}\n.set .LrRCX, {r_rcx}\n.set .LrRDX, {r_rdx}\n.set .LrRBX, {r_rbx}\n.set .LrRBP, {r_rbp}",
                ".set .LrRSI, {r_rsi}\n.set .LrRDI, {r_rdi}\n.set .LrR8, {r_r8}\n.set .LrR9, {r_r9}\n.set .LrR10, {r_r10}",
                ".set .LrR11, {r_r11}\n.set .LrR12, {r_r12}\n.set .LrR13, {r_r13}\n.set .LrR14, {r_r14}\n.set .LrR15, {r_r15}",
                ".set .LrERR, {r_err}\n.set .LrRIP, {r_rip}\n.set .LrCS, {r_cs}\n.set .LrFL, {r_fl}\n.set .LrRSP, {r_rsp}",
                ".set .LrSS, {r_ss}\n.set .LrPK, {r_pk}\n.set .LrVEC, {r_vec}\n.set .LrLVL, {r_lvl}",
                ".set .LPASSAGE, {passage}\n.set .LCELLALIAS, {cell_alias}",
                ".set .LpOWNER, {p_owner}\n.set .LpWORD, {p_word}\n.set .LpTOP, {p_top}\n.set .LpLOWEST, {p_lowest}",
                ".set .LpLIMIT, {p_limit}\n.set .LpWAYS, {p_ways}\n.set .LpFRAMES, {p_frames}\n.set .LpCONN, {p_connections}",
                ".set .LpBASE, {p_base}\n.set .LpROOT, {p_root}\n.set .LpLOADED, {p_loaded}\n.set .LpVAULT, {p_vault}",
                ".set .LpOPEN, {p_open}\n.set .LpSHUT, {p_shut}\n.set .LVAULT, {vault_page}",
                ".set .LcMASK, {c_mask}\n.set .LcSHIFT, {c_shift}\n.set .LcHANDLE, {c_handle}\n.set .LcOWNER, {c_owner}",
                ".set .LcACT, {c_activation}\n.set .LcSERVER, {c_server}\n.set .LcBADGE, {c_badge}\n.set .LcENTRY, {c_entry}",
                ".set .LcCOOKIE, {c_cookie}\n.set .LcSTACK, {c_stack}\n.set .LcROOT, {c_root}",
                ".set .LfRSP, {f_rsp}\n.set .LfOWNER, {f_owner}\n.set .LfWORD, {f_word}\n.set .LfACT, {f_activation}",
                ".set .LfBASE, {f_base}\n.set .LfROOT, {f_root}\n.set .LfBYTES, {f_bytes}",
                ".set .LaAVAIL, {a_available}\n.set .LaWORD, {a_word}\n.set .LaCALLS, {a_calls}",
                $($line,)+
                $($sym = sym $target,)*
                s1 = const window::slot_top(1) as i64, s2 = const window::slot_top(2) as i64,
                s3 = const window::slot_top(3) as i64, s4 = const window::slot_top(4) as i64,
                s5 = const window::slot_top(5) as i64, s6 = const window::slot_top(6) as i64,
                pkrs = const IA32_PKRS, kernel = const window::KERNEL as i64,
                cell = const window::CELL as i64, topp = const window::TOP_POINTER as i64,
                topv = const window::TOP_VALUE_AT as i64, depth = const window::DEPTH as i64,
                nmi_busy = const window::NMI_BUSY as i64, nmi_forged = const window::NMI_FORGED as i64,
                nmi_mode = const window::NMI_MODE as i64, rec = const window::RECORD as i64,
                nmi_rec = const window::NMI_RECORD as i64,
                nest_rec = const window::NESTED_BASE as i64 - size_of::<Record>() as i64,
                nest_shift = const window::NESTED_SHIFT, deepest = const window::DEEPEST,
                kstk = const window::KERNEL_STACK.top as i64, nstk = const window::NMI_STACK.top as i64,
                deep_stk = const window::nested_stack(window::DEEPEST + 1).top as i64, cs = const KERNEL_CODE, ss = const KERNEL_DATA,
                no_error = const record::NO_ERROR_CODE,
                r_rax = const offset_of!(Record, rax), r_rcx = const offset_of!(Record, rcx),
                r_rdx = const offset_of!(Record, rdx), r_rbx = const offset_of!(Record, rbx),
                r_rbp = const offset_of!(Record, rbp), r_rsi = const offset_of!(Record, rsi),
                r_rdi = const offset_of!(Record, rdi), r_r8 = const offset_of!(Record, r8),
                r_r9 = const offset_of!(Record, r9), r_r10 = const offset_of!(Record, r10),
                r_r11 = const offset_of!(Record, r11), r_r12 = const offset_of!(Record, r12),
                r_r13 = const offset_of!(Record, r13), r_r14 = const offset_of!(Record, r14),
                r_r15 = const offset_of!(Record, r15), r_err = const offset_of!(Record, error),
                r_rip = const offset_of!(Record, rip), r_cs = const offset_of!(Record, cs),
                r_fl = const offset_of!(Record, rflags), r_rsp = const offset_of!(Record, rsp),
                r_ss = const offset_of!(Record, ss), r_pk = const offset_of!(Record, pkrs),
                r_vec = const offset_of!(Record, vector), r_lvl = const offset_of!(Record, level),
                passage = const window::PASSAGE as i64, cell_alias = const window::CELL_ALIAS as i64,
                p_owner = const offset_of!(Passage, owner), p_word = const offset_of!(Passage, word_at),
                p_top = const offset_of!(Passage, top), p_lowest = const offset_of!(Passage, lowest),
                p_limit = const offset_of!(Passage, limit), p_ways = const offset_of!(Passage, ways),
                p_frames = const offset_of!(Passage, frames), p_connections = const offset_of!(Passage, connections),
                p_base = const offset_of!(Passage, base), p_root = const offset_of!(Passage, root),
                p_loaded = const offset_of!(Passage, roots_loaded), p_vault = const offset_of!(Passage, vault_at),
                p_open = const offset_of!(Passage, vault_open), p_shut = const offset_of!(Passage, vault_shut),
                vault_page = const window::VAULT as i64,
                c_mask = const CONNECTIONS - 1, c_shift = const size_of::<Connection>().ilog2(),
                c_handle = const offset_of!(Connection, handle), c_owner = const offset_of!(Connection, owner),
                c_activation = const offset_of!(Connection, activation), c_server = const offset_of!(Connection, server),
                c_badge = const offset_of!(Connection, badge), c_entry = const offset_of!(Connection, entry),
                c_cookie = const offset_of!(Connection, cookie), c_stack = const offset_of!(Connection, stack),
                c_root = const offset_of!(Connection, root), f_base = const offset_of!(Frame, base),
                f_root = const offset_of!(Frame, root),
                f_rsp = const offset_of!(Frame, rsp), f_owner = const offset_of!(Frame, owner),
                f_word = const offset_of!(Frame, word_at), f_activation = const offset_of!(Frame, activation),
                f_bytes = const size_of::<Frame>(),
                a_available = const passage::ACTIVATION_AVAILABLE, a_word = const passage::ACTIVATION_WORD,
                a_calls = const passage::ACTIVATION_CALLS,
            )
        }
    };
}

mod exit;
mod gates;
mod nmi;
mod passing;
mod traps;

pub(crate) use traps::{STUB_BYTES, vectors_address};

/// Where a domain continues that came through a gate: at a RET, which it executes with its own rights.
pub(crate) fn gate_landing_address() -> u64 {
    gates::gate_landing as *const () as u64
}

/// Enters the domain that the record describes, from bring-up code.
///
/// # Safety
/// This CPU's window is mapped, DEPTH is 1, PKRS is the kernel's word, interrupts are off, and record and CELL
/// describe a thread that may run. The current stack is abandoned.
pub(crate) unsafe fn enter() -> ! {
    // SAFETY: the exit path needs what the caller promises and nothing else.
    unsafe { exit::trap_exit() }
}

unsafe extern "C" {
    static __kernel_word_ranges: [u64; 2];
    static __kernel_word_ranges_end: [u64; 2];
    static __pkrs_writes: u64;
    static __pkrs_writes_end: u64;
    static __pkrs_reads: u64;
    static __pkrs_reads_end: u64;
    static __pkrs_numbers: u64;
    static __pkrs_numbers_end: u64;
    static __vault_pkrs_writes: u64;
    static __vault_pkrs_writes_end: u64;
    static __vault_pkrs_reads: u64;
    static __vault_pkrs_reads_end: u64;
    static __entry_start: u8;
    static __entry_end: u8;
    static __text_start: u8;
    static __gates_end: u8;
}

/// The table between two linker symbols.
///
/// # Safety
/// Both are bounds of one array of `T` in read-only memory.
unsafe fn linker_table<T>(start: *const T, end: *const T) -> &'static [T] {
    // SAFETY: as the caller promises.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Whether an NMI that interrupted this instruction at DEPTH 0 resumes with the kernel's word.
pub(crate) fn runs_with_kernel_word(rip: u64) -> bool {
    // SAFETY: the linker script puts the symbols around the table.
    let ranges =
        unsafe { linker_table(&raw const __kernel_word_ranges, &raw const __kernel_word_ranges_end) };
    ranges.iter().any(|&[from, to]| (from..to).contains(&rip))
}

/// The gate whose commit range holds this instruction: an interrupted domain starts it again.
pub(crate) fn gate_start_of(rip: u64) -> Option<u64> {
    if !runs_with_kernel_word(rip) {
        return None;
    }
    [layout::GATE_CALL, layout::GATE_REPLY, layout::GATE_SYSCALL]
        .into_iter()
        .find(|&gate| (gate..gate + 0x80).contains(&rip))
}

/// Whether an address lies in the text of stubs or gates, but for the RET at which a domain leaves a gate: that
/// one runs with the domain's word and with interrupts on.
pub(crate) fn is_entry_text(rip: u64) -> bool {
    let within = |from: *const u8, to: *const u8| (from as u64..to as u64).contains(&rip);
    let entry = within(&raw const __text_start, &raw const __gates_end)
        || within(&raw const __entry_start, &raw const __entry_end);
    entry && rip != gate_landing_address()
}

/// The pages of the gates and the stubs.
pub(crate) fn pages() -> impl Iterator<Item = u64> {
    let (from, to) = (&raw const __text_start as u64, &raw const __entry_end as u64);
    (from..to).step_by(4096)
}

/// Where PKRS is read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sites {
    /// Addresses of the instructions of three bytes that write it, in the entry code.
    pub(crate) writes: &'static [u64],
    /// Of those that read it.
    pub(crate) reads: &'static [u64],
    /// Addresses of its number, four bytes each, in the entry code and in SelfTest's.
    pub(crate) numbers: &'static [u64],
    /// As `writes`, in SelfTest's text.
    pub(crate) vault_writes: &'static [u64],
    /// As `reads`, there.
    pub(crate) vault_reads: &'static [u64],
}

/// Where PKRS is read and written, for a machine on which other instructions do that.
pub(crate) fn pkrs_sites() -> Sites {
    // SAFETY: the linker script puts the symbols around the tables.
    unsafe {
        Sites {
            writes: linker_table(&raw const __pkrs_writes, &raw const __pkrs_writes_end),
            reads: linker_table(&raw const __pkrs_reads, &raw const __pkrs_reads_end),
            numbers: linker_table(&raw const __pkrs_numbers, &raw const __pkrs_numbers_end),
            vault_writes: linker_table(&raw const __vault_pkrs_writes, &raw const __vault_pkrs_writes_end),
            vault_reads: linker_table(&raw const __vault_pkrs_reads, &raw const __vault_pkrs_reads_end),
        }
    }
}
