//! Attacks that need more than a hostile domain to be made: a debugger, another image, a second CPU that stands still.
//! They are rows of docs/attacks.md like the crimes; each names the test that makes it. And what nothing stops.

use super::{Attacker, Vector};

/// An attack that a test of its own makes.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What it tries.
    pub about: &'static str,
    /// The strongest attacker against whom the wall holds.
    pub holds: Attacker,
    /// What sort of attack it is.
    pub vectors: &'static [Vector],
    /// What stops it.
    pub stopped_by: &'static str,
    /// The test, as `PACKAGE/TARGET::NAME`.
    pub test: &'static str,
}

/// What goes through, or is not claimed.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// What it is.
    pub about: &'static str,
    /// What sort of attack it is.
    pub vectors: &'static [Vector],
    /// Why nothing stops it, and what would.
    pub why: &'static str,
}

macro_rules! attacks {
    ($($name:literal: $about:literal, $holds:ident [$($vector:ident)+], $stops:literal, $test:literal;)+) => {
        /// All of them.
        pub const ATTACKS: &[Attack] = &[$(Attack {
            name: $name,
            about: $about,
            holds: Attacker::$holds,
            vectors: &[$(Vector::$vector),+],
            stopped_by: $stops,
            test: $test,
        }),+];
    };
}

attacks! {
    "sweep": "jump to any byte of the entry code with hostile registers, flags, stacks, slots",
        Binary [Gate TrapFrame], "checks behind each WRMSR, DEPTH under the kernel's key",
        "tests/injection::sweep::a_jump_to_any_byte_of_the_entry_code_gives_nothing";
    "nmi_everywhere": "an NMI at each instruction of the entry code",
        Binary [NestedTrap], "the list of ranges that run with the kernel's word",
        "tests/injection::nmi::nmi_at_every_instruction_of_the_entry_code";
    "nmi_in_forged_nmi": "a real NMI while a domain has jumped into the NMI stub",
        Binary [NestedTrap Gate], "an NMI that meets itself proves the lower one false",
        "tests/injection::adversary::nmi_inside_a_forged_nmi_handler";
    "machine_check_everywhere": "a machine check at instructions of the entry code",
        Binary [NestedTrap], "MCIP tells it from INT 18; it stops the machine with a report",
        "tests/injection::machine_check::machine_check_at_instructions_of_the_entry_code";
    "timer_in_gate": "an interrupt at each instruction of a gate before its CLI",
        Binary [NestedTrap Gate], "the gate is started again",
        "tests/injection::timer::timer_at_every_instruction_with_interrupts_open";
    "kernel_stack_overflow": "fill the kernel's own stacks",
        Binary [Stack NestedTrap], "guard pages, and a report",
        "tests/injection::stops::overflowing_stacks_and_undeliverable_faults";
    "fault_in_entry_code": "fault in the middle of the entry code",
        Binary [Gate TrapFrame], "the report names the domain that jumped there",
        "tests/injection::blame::faults_in_entry_code_are_reported_with_the_domain";
    "unexplained_word": "run under a PKRS that no exit wrote",
        Binary [TrapFrame], "the word at entry is compared with CELL",
        "tests/forgery::a_word_that_no_exit_wrote_ends_the_domain";
    "interrupts_off_on_two": "switch interrupts off while another CPU waits for this one",
        Binary [Exhaustion StaleRights], "the waiting CPU sends an NMI",
        "tests/injection::adversary::interrupts_off_wedge_no_cpu_of_two";
    "race_revoke": "use a region at every instruction of a revoke on another CPU",
        Binary [StaleRights], "the revoke returns after that CPU has been in the kernel",
        "tests/races::taking::revoke_under_a_running_thread";
    "race_keys": "the same of rekeying, deleting, freeing a key",
        Binary [StaleRights Reuse], "the same",
        "tests/races::taking::rights_keys_and_pages_go_under_a_running_thread";
    "race_migration": "run while the thread is killed, its domain ends, or it is moved",
        Binary [StaleRights], "the same",
        "tests/races::taking::running_threads_end_or_move";
    "race_calls": "calls, signals, revokes that meet",
        Binary [Messages StaleRights], "one lock",
        "tests/races::meeting::calls_signals_and_revokes_meet";
    "stale_translation": "reach a page through a translation that should be gone",
        Binary [Reuse Tables], "INVLPG on every CPU before the frame or key is free",
        "tests/system::translations_cpus4::every_change_is_invalidated";
    "image_with_wrmsr": "bring a WRMSR along in one's text",
        Binary [EscapeBytes], "the loader looks at every byte offset",
        "tests/system::hostile_text_with_wrmsr::is_refused_with_a_reason";
    "image_across_pages": "hide MOV CR3 across two pages",
        Binary [EscapeBytes], "the same",
        "tests/system::hostile_text_with_an_escape_across_pages::is_refused_with_a_reason";
    "image_at_its_end": "hide LIDT in the last bytes of a page",
        Binary [EscapeBytes], "the same; what follows may be anything",
        "tests/system::hostile_text_with_an_escape_at_its_end::is_refused_with_a_reason";
    "image_with_lgdt": "bring LGDT along, in the middle of another instruction",
        Binary [EscapeBytes Tables], "the same",
        "tests/system::hostile_text_with_lgdt::is_refused_with_a_reason";
    "image_with_mov_cr8": "bring MOV CR8 along",
        Binary [EscapeBytes], "the same",
        "tests/system::hostile_text_with_mov_to_cr8::is_refused_with_a_reason";
    "image_with_swapgs": "bring SWAPGS along",
        Binary [EscapeBytes], "the same",
        "tests/system::hostile_text_with_swapgs::is_refused_with_a_reason";
    "image_with_xsetbv": "bring XSETBV along",
        Binary [EscapeBytes], "the same",
        "tests/system::hostile_text_with_xsetbv::is_refused_with_a_reason";
    "image_to_write": "have text that can be written",
        Binary [EscapeBytes Tables], "the loader refuses such a segment",
        "tests/system::hostile_module_to_write_and_execute::is_refused_with_a_reason";
    "image_of_another": "be loaded instead of another server",
        Binary [EscapeBytes], "the manifest has the digest",
        "tests/system::hostile_module_with_another_byte::is_refused_with_a_reason";
    "image_enters_elsewhere": "name an entry point outside of one's text",
        Binary [SharedText], "the loader refuses it",
        "tests/system::hostile_module_with_wrong_entry::is_refused_with_a_reason";
    "kernel_text_of_escapes": "find an escape in the middle of the kernel's instructions",
        Binary [EscapeBytes SharedText], "the builder looks at every byte of the kernel too",
        "tests/kernel_text::text_writes_msrs_at_listed_sites_alone";
    "kernel_sites": "find a privileged instruction that nobody has thought of",
        Binary [EscapeBytes SharedText], "each is listed, with what a jump to it comes to",
        "tests/kernel_text::sites::every_privileged_instruction_is_expected";
    "order_of_the_check": "profit from a check that the compiler moved or left out",
        Binary [Order Gate], "the linked kernel is looked at: behind each WRMSR its check",
        "tests/kernel_text::checked_writes::every_write_is_followed_by_its_check";
    "noise_on_the_line": "send noise on the serial line of the tests",
        Binary [Device Messages], "length, CRC, decoding",
        "tests/system::cpus1_paging4_mem128M::garbage_on_the_link_does_no_harm";
    "noise_at_the_prompt": "type control characters and overlong lines",
        Binary [Device Records], "the editor takes what it knows",
        "tests/system::console::control_characters_do_no_harm";
    "mid_call_death": "die in the middle of a call, as client and as server",
        Binary [Messages StaleRights], "the rules of calls",
        "tests/system::cpus1_paging4_mem128M::middle_dies";
    "grantor_dies": "keep a loan beyond the death of who lent it",
        Binary [StaleRights], "a loan ends with the call, however that ends",
        "tests/system::cpus1_paging4_mem128M::caller_dies_in_server";
    "chain_of_calls": "make a chain of calls as long as one likes",
        Binary [Exhaustion Messages], "eight at the most",
        "tests/system::cpus1_paging4_mem128M::too_deep";
    "exhaust_keys": "take all protection keys",
        Binary [Exhaustion], "a typed error; rights are never kept for want of a key",
        "tests/system::cpus1_paging4_mem128M::keys_exhausted_typed";
    "random_operations": "operations in any order",
        Binary [Handles StaleRights Reuse], "a model says what must come of each",
        "tests/system::stress_cpus1::fixed_seed";
}

/// All that is open.
pub const OPEN: &[Open] = &[
    Open {
        about: "IN and OUT, from a byte in the middle of an instruction or from the kernel's own functions: any port",
        vectors: &[Vector::EscapeBytes, Vector::Device, Vector::Dma],
        why: "one-byte opcodes are in every KiB of text, and ring 0 may execute them; shadow stacks and IBT would stop \
              the jump, an IOMMU what a device does",
    },
    Open {
        about: "a bus master that writes where it likes",
        vectors: &[Vector::Dma],
        why: "no server has such a device; there is no IOMMU support",
    },
    Open {
        about: "one WRMSR of EFER.NXE = 0, MISC_ENABLE, single MTRRs, machine-check banks, by a jump with another ECX",
        vectors: &[Vector::Gate],
        why: "the check comes behind the write; it ends the domain, and what docs/traps.md lists is put right. Without NX \
              the machine resets; the others slow it down or hide an error, and open no memory",
    },
    Open {
        about: "CLI and HLT: a CPU stands still for up to half a second, again and again",
        vectors: &[Vector::Exhaustion],
        why: "an NMI brings it back; nothing forbids the next one",
    },
    Open {
        about: "what caches and predictors tell of others",
        vectors: &[Vector::Speculation],
        why: "not claimed: domains and kernel share them",
    },
    Open {
        about: "escape sequences to the terminal, by whoever may write to the console",
        vectors: &[Vector::Records],
        why: "the shell needs them; the manifest says who else may write there",
    },
];
