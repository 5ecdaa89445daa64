//! Flags, segments, interrupts.

use libpks::abi::layout::GATE_SYSCALL;
use libpks::rt::thread::spawn;

use crate::act::{Hidden, Registers, STACK, execute, interrupt, landing, leap, meanwhile, with_flags};
use crate::frames::{BAD_FLAGS, live_on};
use crate::{Case, Loot, Outcome, unless};

const TRAP: u64 = 0x100;
const INTERRUPTS: u64 = 0x200;
const DIRECTION: u64 = 0x400;
const KICK: u8 = 0x21;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let priority = case.means.priority;
    Some(match case.name {
        "hostile_flags" => hostile_flags(),
        "trap_flag" => Ok(Loot::Got(with_flags(TRAP, landing()))),
        "trap_flag_through_gate" => Ok(Loot::Got(with_flags(TRAP, GATE_SYSCALL))),
        "icebp" => Ok(Loot::Got(execute(Hidden::Icebp).rax)),
        "null_segments" => {
            [Hidden::LoadDs, Hidden::LoadEs, Hidden::LoadFs, Hidden::LoadGs, Hidden::LoadSs]
                .into_iter()
                .for_each(|load| load_segment(load, 0));
            live_on()
        }
        "odd_segments" => {
            [Hidden::LoadDs, Hidden::LoadEs].into_iter().for_each(|load| load_segment(load, case.target));
            Ok(Loot::Got(case.target))
        }
        "mov_ss_then_int" => {
            (0..100).for_each(|_| load_segment(Hidden::LoadSsInt, 0));
            live_on()
        }
        "interrupts_off_in_gate" => {
            let flags = with_flags(0, GATE_SYSCALL);
            unless(flags & INTERRUPTS == 0, flags)
        }
        "interrupts_off_and_spin" => meanwhile(priority, || {
            execute(Hidden::CliSpin);
        }),
        "halt" => meanwhile(priority, || {
            execute(Hidden::CliHalt);
        }),
        "infinite_loop" => spawn(STACK, priority, spin).map(|_| Loot::Nothing),
        "hang" => loop {
            core::hint::spin_loop();
        },
        _ => return None,
    })
}

fn spin() {
    loop {
        core::hint::spin_loop();
    }
}

fn load_segment(load: Hidden, selector: u64) {
    leap(&Registers { rip: load.address(), rax: selector, ..Registers::default() });
}

fn hostile_flags() -> Outcome {
    for through in [interrupt(KICK), GATE_SYSCALL] {
        let flags = with_flags(INTERRUPTS | DIRECTION | BAD_FLAGS, through);
        if flags & BAD_FLAGS != 0 || flags & INTERRUPTS == 0 {
            return Ok(Loot::Got(flags));
        }
    }
    live_on()
}
