//! A jump anywhere with any registers, which comes back if what is there returns.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

/// With what a jump begins.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rbx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) rbp: u64,
    pub(crate) r8: u64,
    pub(crate) r9: u64,
    pub(crate) r10: u64,
    pub(crate) r11: u64,
    pub(crate) r12: u64,
    pub(crate) r13: u64,
    pub(crate) r14: u64,
    pub(crate) r15: u64,
    /// 0 keeps the stack, with the address of [`landing`] on it.
    pub(crate) rsp: u64,
    pub(crate) rip: u64,
}

/// With what it came back.
#[derive(Debug)]
pub(crate) struct After {
    pub(crate) rax: u64,
    pub(crate) rdx: u64,
    pub(crate) r11: u64,
    pub(crate) flags: u64,
    /// RAX, RCX, RDX, RBX, RBP, R15, ORed: what carries no payload out of a gate.
    pub(crate) unused: u64,
}

/// Where the leap's own stack continues, where it goes, and what came back: RAX, RCX, RDX, RBX, RBP, R15, R11, flags.
static BACK: AtomicU64 = AtomicU64::new(0);
static TARGET: AtomicU64 = AtomicU64::new(0);
static AFTER: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Jumps. One at a time: a thread that does not come back from one must not be waited for.
pub(crate) fn leap(registers: &Registers) -> After {
    // SAFETY: not sound by any rule, and that is the point: the domain answers for what it comes to. If it returns it
    // does so through `landing`, which has the stack and the registers that Rust wants as `start` left them.
    unsafe { start(registers) };
    let after = |n: usize| AFTER[n].load(Ordering::Relaxed);
    After {
        rax: after(0),
        rdx: after(2),
        r11: after(6),
        flags: after(7),
        unused: (0..6).fold(0, |all, n| all | after(n)),
    }
}

/// # Safety
/// As [`leap`].
#[unsafe(naked)]
unsafe extern "sysv64" fn start(registers: &Registers) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rip + {back}], rsp",
        "mov rax, [rdi + {rip_at}]",
        "mov [rip + {target}], rax",
        "lea rax, [rip + {landing}]",
        "push rax",
        "mov rax, [rdi + {rsp_at}]",
        "test rax, rax",
        "cmovz rax, rsp",
        "mov rsp, rax",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rsi, [rdi + 32]",
        "mov rbp, [rdi + 48]",
        "mov r8, [rdi + 56]",
        "mov r9, [rdi + 64]",
        "mov r10, [rdi + 72]",
        "mov r11, [rdi + 80]",
        "mov r12, [rdi + 88]",
        "mov r13, [rdi + 96]",
        "mov r14, [rdi + 104]",
        "mov r15, [rdi + 112]",
        "mov rdi, [rdi + 40]",
        "jmp [rip + {target}]",
        back = sym BACK,
        target = sym TARGET,
        landing = sym come_back,
        rip_at = const offset_of!(Registers, rip),
        rsp_at = const offset_of!(Registers, rsp),
    )
}

/// # Safety
/// Only a leap comes here.
#[unsafe(naked)]
unsafe extern "sysv64" fn come_back() {
    naked_asm!(
        "mov [rip + {after}], rax",
        "mov [rip + {after} + 8], rcx",
        "mov [rip + {after} + 16], rdx",
        "mov [rip + {after} + 24], rbx",
        "mov [rip + {after} + 32], rbp",
        "mov [rip + {after} + 40], r15",
        "mov [rip + {after} + 48], r11",
        "mov rsp, [rip + {back}]",
        "pushfq",
        "pop rax",
        "mov [rip + {after} + 56], rax",
        "cld",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        after = sym AFTER,
        back = sym BACK,
    )
}

/// Where a leap comes back.
pub(crate) fn landing() -> u64 {
    come_back as *const () as u64
}

/// Reads what RBX points to into RAX, and comes back.
pub(crate) fn escaped() -> u64 {
    /// # Safety
    /// Only a leap comes here.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn read_witness() {
        naked_asm!("mov rax, [rbx]", "jmp {landing}", landing = sym come_back)
    }
    read_witness as *const () as u64
}
