//! Every instruction of the kernel that only ring 0 may execute: where it is, and what a jump to it comes to.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};
use image::system::System;

/// What a jump to an instruction comes to.
const CHECKED: &str = "every_write_is_followed_by_its_check";
const HARMLESS: &str = "reads what is no secret, or switches interrupts off for the length of a check";
const FRAME: &str = "IRETQ takes a frame of the domain's own: no right comes with it";
const PORTS: &str = "residual: ports (docs/threat-model.md, note 3)";
const STANDS_STILL: &str = "residual: the CPU stands still until an NMI, then the domain ends";
const OWN_TRANSLATION: &str = "drops a translation, which is read again from the tables";
const BRING_UP: &str = "unmapped once all CPUs are up";
const VAULT: &str = "executable only while the kernel itself calls it";

/// Section, function, instructions, what stops a jump to them.
type Row = (&'static str, &'static str, &'static [(&'static str, usize)], &'static str);

const ENTRY: &[(&str, usize)] = &[("CLI", 1), ("RDMSR", 1), ("WRMSR", 1)];
const RETURN: &[(&str, usize)] = &[("IRETQ", 1)];

/// All sites. What is new here needs an argument in docs/traps.md.
const SITES: &[Row] = &[
    (".text", "gates", &[("CLI", 3), ("WRMSR", 3)], CHECKED),
    (".text", "arch::entry::exit::trap_exit", &[("IRETQ", 1), ("WRMSR", 1)], CHECKED),
    (
        ".text",
        "arch::entry::nmi::nmi_entry",
        &[("CLI", 1), ("IRETQ", 1), ("RDMSR", 1), ("WRMSR", 2)],
        CHECKED,
    ),
    (".text", "arch::entry::passing::pass_call", &[("INVLPG", 2), ("STI", 2), ("WRMSR", 2)], CHECKED),
    (".text", "arch::entry::passing::pass_reply", &[("INVLPG", 2), ("STI", 2), ("WRMSR", 2)], CHECKED),
    (".text", "arch::entry::traps::gate_bad", &[("CLI", 1), ("WRMSR", 1)], CHECKED),
    (".text", "arch::entry::traps::level2", ENTRY, CHECKED),
    (".text", "arch::entry::traps::level3", ENTRY, CHECKED),
    (".text", "arch::entry::traps::level4", ENTRY, CHECKED),
    (".text", "arch::entry::traps::level5", ENTRY, CHECKED),
    (".text", "arch::entry::traps::level6", ENTRY, CHECKED),
    (".text", "arch::entry::traps::nested3", RETURN, FRAME),
    (".text", "arch::entry::traps::nested4", RETURN, FRAME),
    (".text", "arch::entry::traps::nested5", RETURN, FRAME),
    (".text", "arch::insn::in8", &[("IN", 1)], PORTS),
    (".text", "arch::insn::in16", &[("IN", 1)], PORTS),
    (".text", "arch::insn::in32", &[("IN", 1)], PORTS),
    (".text", "arch::insn::out8", &[("OUT", 1)], PORTS),
    (".text", "arch::insn::out16", &[("OUT", 1)], PORTS),
    (".text", "arch::insn::out32", &[("OUT", 1)], PORTS),
    (".text", "arch::insn::invalidate_page", &[("INVLPG", 1)], OWN_TRANSLATION),
    (".text", "arch::insn::read_cr2", &[("MOV from CR", 1)], HARMLESS),
    (".text", "arch::insn::read_cr3", &[("MOV from CR", 1)], HARMLESS),
    (".text", "arch::insn::read_cr4", &[("MOV from CR", 1)], HARMLESS),
    (".text", "arch::insn::read_msr", &[("RDMSR", 1)], HARMLESS),
    (".text", "arch::insn::stop", &[("CLI", 1), ("HLT", 1)], STANDS_STILL),
    (".text", "first::idle_loop", &[("HLT", 1), ("STI", 1)], STANDS_STILL),
    (
        ".init.text",
        "arch::insn::init::load_gdt",
        &[("LGDT", 1), ("LLDT", 1), ("LTR", 1), ("MOV to segment", 5), ("RETF", 1)],
        BRING_UP,
    ),
    (".init.text", "arch::insn::init::load_idt", &[("LIDT", 1)], BRING_UP),
    (".init.text", "arch::insn::init::read_cr0", &[("MOV from CR", 1)], BRING_UP),
    (".init.text", "arch::insn::init::write_cr0", &[("MOV to CR", 1)], BRING_UP),
    (".init.text", "arch::insn::init::write_cr3", &[("MOV to CR", 1)], BRING_UP),
    (".init.text", "arch::insn::init::write_cr4", &[("MOV to CR", 1)], BRING_UP),
    (".init.text", "arch::insn::init::write_msr", &[("WRMSR", 1)], BRING_UP),
    (".init.text", "arch::insn::init::enable_pku", &[("MOV to CR", 1), ("WRPKRU", 1)], BRING_UP),
    (".init.text", "arch::start::continue_on_root", &[("MOV from CR", 1), ("MOV to CR", 2)], BRING_UP),
    (".init.text", "arch::start::other_cpu_start", &[("MOV from CR", 1), ("MOV to CR", 2)], BRING_UP),
    (".vault.text", "arch::registers::write_msr", &[("WRMSR", 1)], VAULT),
    (".vault.text", "arch::root::pass_root", &[("MOV to CR", 1)], VAULT),
    (".vault.text", "arch::root::write_cr3", &[("MOV to CR", 1)], VAULT),
    (".vault.text", "selftest::leaf::fetch_page", &[("WRMSR", 2)], VAULT),
    (
        ".vault.text",
        "selftest::probe::probe_access",
        &[("INVLPG", 2), ("MOV from CR", 2), ("MOV to CR", 4), ("WRMSR", 2)],
        VAULT,
    ),
    (".vault.text", "selftest::write_pkrs_raw", &[("RDMSR", 1), ("WRMSR", 2)], VAULT),
];

/// How often an instruction is in a function of a section.
type Sites = BTreeMap<(String, String, &'static str), usize>;

#[test]
fn every_privileged_instruction_is_expected() -> Result<()> {
    let system = crate::system()?;
    let mut expected = Sites::new();
    for (section, function, instructions, check) in SITES {
        let checked = instructions.iter().any(|(name, _)| *name == "WRMSR") && *section == ".text";
        ensure!(checked == (*check == CHECKED), "{function}: a WRMSR that stays mapped is {CHECKED}");
        for &(name, count) in *instructions {
            expected.insert(((*section).to_owned(), (*function).to_owned(), name), count);
        }
    }
    let found = sites(&system)?;
    let more: Vec<_> = found.iter().filter(|(site, count)| expected.get(site) != Some(count)).collect();
    let less: Vec<_> = expected.iter().filter(|(site, count)| found.get(site) != Some(count)).collect();
    ensure!(
        more.is_empty() && less.is_empty(),
        "found, not expected: {more:#?}\nexpected, not found: {less:#?}"
    );
    Ok(())
}

fn sites(system: &System) -> Result<Sites> {
    let mut found = Sites::new();
    for section in [".text", ".init.text", ".vault.text"] {
        let text = crate::section(system, section)?;
        for (address, code) in text.functions() {
            let place = text.place(address);
            let function = place.strip_suffix("+0x0").unwrap_or(&place);
            let function = function.strip_prefix("kernel::").unwrap_or(function);
            for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
                if let Some(name) = privileged(&instruction) {
                    *found.entry((section.to_owned(), function.to_owned(), name)).or_default() += 1;
                }
            }
        }
    }
    Ok(found)
}

fn privileged(instruction: &Instruction) -> Option<&'static str> {
    let to = |is_kind: fn(Register) -> bool| is_kind(instruction.op0_register());
    match instruction.mnemonic() {
        Mnemonic::Wrmsr => Some("WRMSR"),
        Mnemonic::Wrpkru => Some("WRPKRU"),
        Mnemonic::Rdmsr => Some("RDMSR"),
        Mnemonic::Mov if to(Register::is_cr) => Some("MOV to CR"),
        Mnemonic::Mov if to(Register::is_dr) => Some("MOV to DR"),
        Mnemonic::Mov if to(Register::is_segment_register) => Some("MOV to segment"),
        Mnemonic::Mov if instruction.op1_register().is_cr() => Some("MOV from CR"),
        Mnemonic::Lgdt => Some("LGDT"),
        Mnemonic::Lidt => Some("LIDT"),
        Mnemonic::Ltr => Some("LTR"),
        Mnemonic::Lldt => Some("LLDT"),
        Mnemonic::Invlpg => Some("INVLPG"),
        Mnemonic::In => Some("IN"),
        Mnemonic::Out => Some("OUT"),
        Mnemonic::Cli => Some("CLI"),
        Mnemonic::Sti => Some("STI"),
        Mnemonic::Hlt => Some("HLT"),
        Mnemonic::Iretq => Some("IRETQ"),
        Mnemonic::Retf => Some("RETF"),
        Mnemonic::INVALID => Some("no instruction"),
        _ if instruction.is_privileged() => Some("another"),
        _ => None,
    }
}
