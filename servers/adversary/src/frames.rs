//! Frames, stacks, traps.

use core::hint::black_box;
use core::time::Duration;

use libpks::abi::Syscall;
use libpks::abi::layout::GATE_SYSCALL;
use libpks::abi::message::Info;
use libpks::rt::{Instant, time};

use crate::act::{
    Hidden, Registers, escaped, execute, interrupt, jump, landing, leap, slot_tops, with_flags, write,
};
use crate::jumps::{CODE, DATA, FLAGS, forge, stub_of};
use crate::{Case, Loot, Outcome, unless};

/// The interrupt by which a CPU asks another in: it may come at any time and carries nothing.
const KICK: u8 = 0x21;
/// Those of the serial ports.
const SERIAL: [u8; 2] = [0x33, 0x34];
/// NT, AC, IOPL; and with them TF, RF, VM.
pub(crate) const BAD_FLAGS: u64 = 0x4_7000;
const WORSE_FLAGS: u64 = 0x7_7100;
const NOWHERE: u64 = 1 << 63;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let target = case.target;
    Some(match case.name {
        "stack_overflow" => Ok(Loot::Got(recurse(target))),
        "int_exceptions" => Ok(Loot::Got(jump(interrupt(target as u8)).rax)),
        "int_double_fault" => Ok(Loot::Got(jump(interrupt(8)).rax)),
        "int_machine_check" => Ok(Loot::Got(jump(interrupt(18)).rax)),
        "int_nmi" => repeat(1000, || {
            jump(interrupt(2));
        }),
        "int_page_fault" => int_page_fault(),
        "int_interrupts" => {
            (32..=u8::MAX).for_each(|vector| {
                jump(interrupt(vector));
            });
            Ok(Loot::Nothing)
        }
        "int_device_flood" => repeat(1000, || {
            SERIAL.into_iter().for_each(|vector| {
                jump(interrupt(vector));
            })
        }),
        "forged_return_address" => Ok(Loot::Got(through_stub(NOWHERE | 1, FLAGS))),
        "forged_flags" => {
            let flags = through_stub(landing(), FLAGS | WORSE_FLAGS);
            unless(flags & BAD_FLAGS != 0, flags)
        }
        "forged_slots" => forged_slots(),
        "iret_frames" => Ok(Loot::Got(iret(target, case.witness))),
        "iret_to_itself" => {
            return_by_frame([landing(), CODE, FLAGS | BAD_FLAGS, own_stack(), DATA], case.witness);
            repeat(100, || {
                let _ = Instant::now();
            })
        }
        "pivot_foreign_fault" | "pivot_kernel_fault" => pivot(target, Hidden::Ud2.address()),
        "pivot_nowhere_fault" => pivot(NOWHERE, Hidden::Ud2.address()),
        "pivot_foreign_int" => pivot(target, interrupt(KICK)),
        "pivot_foreign_gate" | "pivot_kernel_gate" | "pivot_constants_gate" | "pivot_slot_gate" => {
            pivot(target, GATE_SYSCALL)
        }
        "pivot_nowhere_gate" => pivot(NOWHERE, GATE_SYSCALL),
        "thread_elsewhere" => thread_at(target, u64::from(case.means.priority)),
        _ => return None,
    })
}

fn repeat(times: u32, mut crime_fn: impl FnMut()) -> Outcome {
    (0..times).for_each(|_| crime_fn());
    Ok(Loot::Nothing)
}

/// Uses up the stack, and is not a loop to the compiler.
#[expect(unconditional_recursion, reason = "that is the crime")]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    recurse(depth + 1) + room.iter().sum::<u64>()
}

/// INT 14 pushes no error code: in its place lies what the domain has put there, a write that a key forbade.
fn int_page_fault() -> Outcome {
    slot_tops().into_iter().for_each(|slot| write(slot - 48, 0x23));
    jump(interrupt(14));
    Ok(Loot::Nothing)
}

/// Enters the stub of an interrupt by a jump, with frames of its own in all slots; gives the flags with which it came back to
/// `rip`. Interrupts are off from before the forging on: a true one would scrub what was forged.
fn through_stub(rip: u64, flags: u64) -> u64 {
    let stack = [landing(); 16];
    let top = (&raw const stack[8]).expose_provenance() as u64;
    let slots = slot_tops();
    with_flags(0, landing());
    slots.into_iter().for_each(|slot| forge(slot, rip, flags, top));
    with_flags(0, stub_of(u64::from(KICK)))
}

fn forged_slots() -> Outcome {
    for round in 0..20_u64 {
        let noise = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for slot in slot_tops() {
            (1..=60).for_each(|n| write(slot - 8 * n, noise.rotate_left(n as u32)));
        }
        match round % 3 {
            0 => {
                jump(interrupt(KICK));
            }
            1 => {
                let _ = Instant::now();
            }
            _ => time::sleep(Duration::from_millis(1))?,
        }
    }
    Ok(Loot::Nothing)
}

/// A place in this domain's stack with room below.
fn own_stack() -> u64 {
    let here = 0_u64;
    (&raw const here).expose_provenance() as u64 & !0xf
}

/// Returns by a frame: RIP, CS, flags, RSP, SS.
fn return_by_frame(frame: [u64; 5], witness: u64) -> u64 {
    let frame = black_box(frame);
    let rsp = (&raw const frame).expose_provenance() as u64;
    leap(&Registers { rip: Hidden::Iretq.address(), rsp, rbx: witness, ..Registers::default() }).rax
}

fn iret(variant: u64, witness: u64) -> u64 {
    let good = [escaped(), CODE, FLAGS, own_stack(), DATA];
    let [rip, code, flags, rsp, data] = good;
    return_by_frame(
        match variant {
            0 => [rip, 0, flags, rsp, data],
            1 => [rip, DATA, flags, rsp, data],
            2 => [rip, 0x1b, flags, rsp, 0x23],
            3 => [rip, CODE | 3, flags, rsp, DATA | 3],
            4 => [rip, code, flags, rsp, DATA | 3],
            5 => [NOWHERE, code, flags, rsp, data],
            6 => {
                // The frame itself is somebody else's.
                let rip = Hidden::Iretq.address();
                return leap(&Registers { rip, rsp: witness & !7, ..Registers::default() }).rax;
            }
            _ => good,
        },
        witness,
    )
}

/// Does something with a stack that is not its own. Through a gate it is a Yield.
fn pivot(rsp: u64, rip: u64) -> Outcome {
    Ok(Loot::Got(leap(&Registers { rip, rsp, r15: Syscall::Yield as u64, ..Registers::default() }).rax))
}

/// Asks for a thread that begins at an address.
fn thread_at(entry: u64, priority: u64) -> Outcome {
    let registers = Registers {
        rip: GATE_SYSCALL,
        r15: Syscall::ThreadCreate as u64,
        rdi: entry,
        r8: crate::act::STACK,
        r9: priority,
        ..Registers::default()
    };
    Info::from_raw(leap(&registers).r11).result().map(|()| Loot::Got(entry))
}

/// For who wants UD2 with a frame pointer of its own.
pub(crate) fn fault_with_frame(rbp: u64) -> Outcome {
    Ok(Loot::Got(leap(&Registers { rip: Hidden::Ud2.address(), rbp, ..Registers::default() }).rax))
}

/// INT 33, which any domain may claim, as a way into the kernel and back.
pub(crate) fn be_interrupted() {
    jump(interrupt(KICK));
}

/// For crimes that leave something behind in the CPU: interrupted, called, slept, and still well.
pub(crate) fn live_on() -> Outcome {
    for _ in 0..10 {
        be_interrupted();
        let _ = Instant::now();
        time::sleep(Duration::from_millis(1))?;
    }
    let _ = execute(Hidden::StoreTask);
    Ok(Loot::Nothing)
}
