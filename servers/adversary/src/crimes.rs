//! Crimes against memory and control flow.
//!
//! The accesses are single instructions in assembly: the compiler must neither judge them nor leave them out.

use core::arch::asm;

use libpks::abi::layout::{GATE_CALL, GATE_SYSCALL, KERNEL_BASE};
use libpks::abi::message::Info;
use libpks::rt::{Error, Handle};

/// An instruction that returns: RET.
const RETURN: u64 = 0xc3c3_c3c3_c3c3_c3c3;
/// Bytes from one gate to the next.
const GATE_BYTES: u64 = 0x80;

/// Commits a crime; `None` if it is not one of these. What comes back was not stopped, or was refused.
pub(crate) fn commit(name: &str, target: u64, server: Handle) -> Option<Result<(), Error>> {
    match name {
        "read_foreign_memory" | "read_kernel_memory" | "read_kernel_text" => drop(read(target)),
        "write_foreign_memory" | "write_kernel_memory" | "write_kernel_text" | "write_open_constants" => {
            write(target, 0x6372_696d);
        }
        "write_own_text" => write(commit as *const () as u64, RETURN),
        "execute_data" => execute_data(),
        "execute_stack" => {
            let code = core::hint::black_box(RETURN);
            jump((&raw const code).expose_provenance() as u64);
        }
        "jump_to_kernel_data" => jump(target),
        "jump_into_gate" => jump(GATE_SYSCALL + 0x21),
        "jump_past_gates" => jump(KERNEL_BASE + 3 * GATE_BYTES),
        "stack_overflow" => drop(recurse(target)),
        "null_read" => drop(read(8)),
        "null_write" => write(8, 1),
        "non_canonical" => drop(read(1 << 63)),
        "divide_error" => divide_by_zero(),
        // SAFETY: #UD ends the domain.
        "undefined_instruction" => unsafe { asm!("ud2", options(nostack)) },
        // SAFETY: #BP ends the domain; if not, execution goes on behind it.
        "breakpoint" => unsafe { asm!("int3", options(nostack)) },
        "panic" => panic!("on request"),
        "wrong_syscall" => return Some(wrong_syscalls()),
        "oversized_message" => return Some(oversized_messages(server)),
        _ => return None,
    }
    Some(Ok(()))
}

fn read(address: u64) -> u64 {
    let value;
    // SAFETY: it reads and has no other effect. If the address is not this domain's the CPU must refuse, which ends
    // the domain; that is what is tried.
    unsafe {
        asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags, readonly))
    };
    value
}

fn write(address: u64, value: u64) {
    // SAFETY: not sound if it goes through, and that is the point: the address is never this domain's own data, so
    // the CPU must refuse, which ends the domain. If it does not, the test fails.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
}

fn jump(address: u64) {
    // SAFETY: as in `write`. What can be there is a RET, which comes back here, or kernel text, which must not give
    // this domain anything; RBX holds what a domain would like PKRS to be.
    unsafe {
        asm!(
            "push rbx",
            "xor ebx, ebx",
            "call rax",
            "pop rbx",
            inout("rax") address => _,
            in("rdi") 0,
            in("rsi") u64::MAX,
            clobber_abi("sysv64"),
        );
    }
}

fn execute_data() {
    static CODE: [u64; 1] = [RETURN];
    // Copied, so that it lies on the heap, which is writable.
    let code = alloc::boxed::Box::new(core::hint::black_box(CODE));
    jump((&raw const *code).expose_provenance() as u64);
}

/// Uses up the stack, and is not a loop to the compiler.
#[expect(unconditional_recursion, reason = "that is the crime")]
fn recurse(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    recurse(depth + 1) + room.iter().sum::<u64>()
}

fn divide_by_zero() {
    // SAFETY: #DE ends the domain.
    unsafe {
        asm!("div {:e}", in(reg) 0_u32, inout("eax") 1 => _, inout("edx") 0 => _, options(nostack));
    }
}

/// Asks for operations that do not exist; gives the error if it is the same for all.
fn wrong_syscalls() -> Result<(), Error> {
    let mut last = Ok(());
    for number in [8, 99, 255, 256, 1 << 31, 1 << 32, u64::MAX] {
        last = through(GATE_SYSCALL, number, 0);
        if last != Err(Error::NoSuchSyscall) {
            return last;
        }
    }
    last
}

/// Calls a server with an information word that no message has: one byte too many, all bits of the size, a capability
/// too many, reserved bits, an error; gives the error if it is the same for all.
fn oversized_messages(server: Handle) -> Result<(), Error> {
    let mut last = Ok(());
    for info in [4097, 0x1fff, 5 << 16, 7 << 16, 1 << 13, 1 << 15, 1 << 19, 1 << 32, u64::MAX] {
        last = through(GATE_CALL, server.raw(), info);
        if last != Err(Error::BadMessage) {
            return last;
        }
    }
    last
}

/// Through a gate with a bare handle or number and a bare information word, all other registers full of noise.
fn through(gate: u64, target: u64, info: u64) -> Result<(), Error> {
    let answer: u64;
    // SAFETY: the gate's address is fixed by the ABI; it changes the listed registers and no memory but the IPC
    // buffer, which nobody refers to. RBX and RBP, which cannot be listed, are saved on the stack.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, -1",
            "call rax",
            "pop rbp",
            "pop rbx",
            inout("rax") gate => _,
            inout("r15") target => _,
            inout("r11") info => answer,
            inout("rdi") u64::MAX => _,
            inout("rsi") u64::MAX => _,
            inout("r8") u64::MAX => _,
            inout("r9") u64::MAX => _,
            inout("r10") u64::MAX => _,
            inout("r12") u64::MAX => _,
            inout("r13") u64::MAX => _,
            inout("r14") u64::MAX => _,
            out("rcx") _,
            out("rdx") _,
        );
    }
    Info::from_raw(answer).result()
}
