//! Flags, segment registers, interrupts: state of the CPU that a domain can leave hostile.

use super::{Crime, crimes};
use crate::abi::fault::FaultKind;

crimes! {
    "hostile_flags": "set NT, AC, IOPL, DF, RF, call, sleep, be interrupted, and look which are left",
        Nothing => Harmless, Binary [TrapFrame],
        "entry takes flags from constants, the way out masks them";
    "trap_flag": "set TF",
        Nothing => Ends(FaultKind::Exception(1)), Binary [TrapFrame],
        "#DB, for which the domain answers";
    "trap_flag_through_gate": "enter a gate with TF set",
        Nothing => EndsSomehow, Binary [TrapFrame NestedTrap Gate],
        "a #DB inside the kernel that comes before the flags are loaded is dropped and leaves without TF";
    "icebp": "execute INT1",
        Nothing => EndsSomehow, Binary [TrapFrame],
        "the same as TF";
    "null_segments": "load null into DS, ES, FS, GS, SS, then call, sleep, be interrupted",
        Nothing => Harmless, Binary [TrapFrame],
        "64-bit mode looks at none of them; the kernel loads SS on its way out";
    "odd_segments": "load selectors that do not exist",
        Numbers(&[0x1b, 0x20, 0x2b, 0xfffb]) => Ends(FaultKind::Exception(13)), Binary [Tables],
        "the GDT ends before them";
    "mov_ss_then_int": "execute INT 33 in the shadow of MOV SS",
        Nothing => Harmless, Binary [TrapFrame],
        "the shadow holds debug exceptions back, of which there are none";
    "interrupts_off_in_gate": "switch interrupts off and call the kernel, and look whether they are on then",
        Nothing => Harmless, Binary [Gate],
        "the way out sets IF";
    "interrupts_off_and_spin": "switch interrupts off and spin for ever, in a thread of its own",
        Nothing => Harmless, Binary [Exhaustion NestedTrap],
        "an NMI from another CPU, or from the PIT where there is one CPU, lets interrupts in again",
        left "up to half a second each time";
    "halt": "switch interrupts off and halt, in a thread of its own",
        Nothing => Harmless, Binary [Exhaustion SharedText],
        "the same",
        left "the same";
    "infinite_loop": "spin in a thread of its own, for ever",
        Nothing => Harmless, Binary [Exhaustion],
        "the timer; who is more urgent runs first, and a budget that is used up is no urgency at all";
    "hang": "spin in the call, for ever",
        Nothing => Ends(FaultKind::Hung), Binary [Exhaustion],
        "what a call may take beyond its client's budget; then its server is ended and the client goes on";
}
