//! Reads, writes and jumps to memory that is not this domain's.

use alloc::boxed::Box;
use core::hint::black_box;

use crate::act::{jump, read, write};
use crate::{Case, Loot, Outcome};

/// Instructions that return: RET.
const RETURN: u64 = 0xc3c3_c3c3_c3c3_c3c3;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let target = case.target;
    let got = match case.name {
        "read_foreign_memory"
        | "read_every_domain"
        | "read_kernel_memory"
        | "read_kernel_places"
        | "read_kernel_text" => read(target),
        "write_foreign_memory"
        | "write_every_domain"
        | "write_every_text"
        | "write_kernel_memory"
        | "write_kernel_places"
        | "write_kernel_text"
        | "write_open_constants" => written(target),
        "write_own_text" => written(commit as *const () as u64),
        "execute_every_domain"
        | "execute_kernel_stack"
        | "execute_direct_map"
        | "execute_vault"
        | "execute_bring_up"
        | "execute_open_constants"
        | "jump_to_kernel_data" => jump(target).rax,
        "execute_trap_slot" => {
            write(target - 0x100, RETURN);
            jump(target - 0x100).rax
        }
        "execute_data" => {
            // On the heap, which is writable.
            let code = Box::new(black_box(RETURN));
            jump((&raw const *code).expose_provenance() as u64).rax
        }
        "execute_stack" => {
            let code = black_box(RETURN);
            jump((&raw const code).expose_provenance() as u64).rax
        }
        "overrun" => overrun(),
        "null_read" => read(8),
        "null_write" => written(8),
        "null_call" => jump(8).rax,
        "non_canonical" => read(1 << 63),
        _ => return None,
    };
    Some(Ok(Loot::Got(got)))
}

fn written(address: u64) -> u64 {
    write(address, 0x6372_696d);
    address
}

/// Writes on and on. Its own heap is lost with it.
fn overrun() -> u64 {
    let buffer = Box::new(black_box(0_u64));
    let first = (&raw const *buffer).expose_provenance() as u64;
    for n in 0.. {
        write(first + 8 * n, n);
    }
    0
}
