//! Instructions that no domain is meant to have.

use core::arch::asm;

use crate::act::{Hidden, Registers, escaped, execute, leap, read, table_register};
use crate::{Case, Loot, Outcome};

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let instruction = match case.name {
        "syscall" => Hidden::Syscall,
        "sysret" => Hidden::Sysret,
        "sysenter" => Hidden::Sysenter,
        "sysexit" => Hidden::Sysexit,
        "vmcall" => Hidden::Vmcall,
        "vmxon" => Hidden::Vmxon,
        "getsec" => Hidden::Getsec,
        "rsm" => Hidden::Rsm,
        "xrstor" => Hidden::Xrstor,
        "xgetbv" => Hidden::Xgetbv,
        "wrgsbase" => Hidden::Wrgsbase,
        "sse" => Hidden::Sse,
        "x87" => Hidden::X87,
        "clts_then_x87" => Hidden::CltsX87,
        _ => return harmless_or_ordinary(case),
    };
    let place = [0_u64; 128];
    let rdi = (&raw const place).expose_provenance() as u64;
    let after = leap(&Registers { rip: instruction.address(), rdi, ..Registers::default() });
    Some(Ok(Loot::Got(after.rax)))
}

fn harmless_or_ordinary(case: &Case<'_>) -> Option<Outcome> {
    match case.name {
        "divide_error" => divide_by_zero(),
        "undefined_instruction" => {
            execute(Hidden::Ud2);
        }
        // SAFETY: #BP ends the domain; if not, execution goes on behind it.
        "breakpoint" => unsafe { asm!("int3", options(nostack)) },
        "panic" => panic!("on request"),
        "wbinvd" => {
            execute(Hidden::Wbinvd);
        }
        "monitor_mwait" => {
            let watched = 0_u64;
            let rax = (&raw const watched).expose_provenance() as u64;
            leap(&Registers { rip: Hidden::Mwait.address(), rax, ..Registers::default() });
        }
        "read_descriptor_tables" => {
            let tables = [Hidden::StoreGdt, Hidden::StoreIdt].map(table_register);
            for table in tables {
                let _ = read(table);
            }
            let _ = [Hidden::StoreTask, Hidden::StoreLdt].map(execute);
        }
        "far_jumps" => {
            // Whatever the selector, it would come to what reads the witness.
            let pointer = [escaped(), case.target];
            let rdi = (&raw const pointer).expose_provenance() as u64;
            let start = Registers { rdi, rbx: case.witness, ..Registers::default() };
            for far in [Hidden::JumpFar, Hidden::CallFar] {
                leap(&Registers { rip: far.address(), ..start });
            }
        }
        _ => return None,
    }
    Some(Ok(Loot::Nothing))
}

fn divide_by_zero() {
    // SAFETY: #DE ends the domain.
    unsafe {
        asm!("div {:e}", in(reg) 0_u32, inout("eax") 1 => _, inout("edx") 0 => _, options(nostack));
    }
}
