//! Behind each WRMSR that stays mapped is the check that makes a jump to it worth nothing.

use anyhow::{Context, Result, ensure};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use image::text::Text;
use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, GATE_WRITE_OFFSET};

const IA32_PKRS: u64 = 0x6e1;
/// The words that the CPU is to have, the domain's and the kernel's, in a page that no domain can write (docs/traps.md).
const CELL: u64 = 0xffff_ffff_c000_0008;
const KERNEL: u64 = 0xffff_ffff_c000_0028;
/// Where a check that fails goes.
const LANDING: &str = "kernel::arch::entry::traps::gate_bad";

#[test]
fn every_write_is_followed_by_its_check() -> Result<()> {
    let text = crate::section(&crate::system()?, ".text")?;
    let mut checked = 0;
    for (address, code) in text.functions() {
        let code = decode(address, code);
        for (n, _) in code.iter().enumerate().filter(|(_, it)| it.mnemonic() == Mnemonic::Wrmsr) {
            let place = text.place(code[n].ip());
            check(&text, &code[n + 1..]).with_context(|| format!("behind the WRMSR in {place}"))?;
            checked += 1;
        }
    }
    ensure!(checked >= 12, "only {checked} writes found");
    Ok(())
}

/// Where the tests aim that jump to the write of a gate.
#[test]
fn each_gate_writes_where_tests_aim() -> Result<()> {
    let text = crate::section(&crate::system()?, ".text")?;
    let writes: Vec<_> = text
        .functions()
        .flat_map(|(address, code)| decode(address, code))
        .filter(|it| it.mnemonic() == Mnemonic::Wrmsr)
        .map(|it| it.ip())
        .collect();
    for gate in [GATE_CALL, GATE_REPLY, GATE_SYSCALL] {
        let aim = gate + GATE_WRITE_OFFSET;
        ensure!(writes.contains(&aim), "no WRMSR at {aim:#x}");
    }
    Ok(())
}

fn decode(address: u64, code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().collect()
}

/// CMP RAX with a word that no domain chooses, CMP ECX with the register's number, each with a jump to the landing; then
/// LFENCE or IRETQ, which wait for both (Intel SDM vol. 3A, 9.3), before anything that leads elsewhere.
fn check(text: &Text, code: &[Instruction]) -> Result<()> {
    let [word, not_word, register, not_register, rest @ ..] = code else { anyhow::bail!("the text ends") };
    ensure!(
        word.mnemonic() == Mnemonic::Cmp && word.op0_register() == Register::RAX,
        "{word} is not CMP RAX"
    );
    let memory = word.op1_kind() == OpKind::Memory && word.memory_base() == Register::None;
    let constant = memory && word.memory_index() == Register::None;
    let due = constant && matches!(word.memory_displacement64(), CELL | KERNEL);
    ensure!(due, "{word} compares with what is neither the kernel's word nor the cell");
    let is_number = register.mnemonic() == Mnemonic::Cmp && register.op0_register() == Register::ECX;
    ensure!(is_number && register.immediate(1) == IA32_PKRS, "{register} is not CMP ECX, 6E1h");
    for jump in [not_word, not_register] {
        let target = text.place(jump.near_branch_target());
        ensure!(
            jump.mnemonic() == Mnemonic::Jne && target == format!("{LANDING}+0x0"),
            "{jump} goes to {target}"
        );
    }
    let waits = |it: &&Instruction| matches!(it.mnemonic(), Mnemonic::Lfence | Mnemonic::Iretq);
    let barrier = rest.iter().position(|it| waits(&it)).context("no LFENCE")?;
    let leads = |it: &Instruction| {
        it.is_call_near()
            || it.is_call_near_indirect()
            || it.is_jmp_near_indirect()
            || it.mnemonic() == Mnemonic::Ret
    };
    let early = rest[..barrier].iter().find(|it| leads(it));
    ensure!(early.is_none(), "{} comes before the checks are known", early.copied().unwrap_or_default());
    Ok(())
}
