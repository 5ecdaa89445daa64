//! Builds servers so that the kernel takes them.
//!
//! The kernel's loader refuses an image whose text holds an escape at any byte offset (`libpks::verify`). A server's
//! author should hear of that here, by name and place. What the compiler or a dependency wrote on purpose is
//! refused outright; what came about in the middle of other instructions is built in another way.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use libpks::manifest_head::Digest;
use sha2::{Digest as _, Sha256};

use crate::guest::Guest;
use crate::text::{self, Text};
use crate::workspace::Workspace;

/// Builds servers; gives their executables in the order of `packages`.
///
/// # Errors
/// When cargo fails, when a server holds an instruction that no domain may execute (function and offset are named), or
/// when accidental ones stay whatever is tried.
pub fn build(guest: &Guest<'_>, workspace: &Workspace, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let built = guest.build(packages)?;
    let clean = |(package, file): (&&str, PathBuf)| {
        text::clean(
            guest,
            workspace,
            package,
            &file,
            |file| Text::read(file, |_section| true),
            |text| {
                refuse_privileged(text).with_context(|| format!("server `{package}` is refused"))?;
                Ok(text.findings().collect())
            },
        )
    };
    packages.iter().zip(built).map(clean).collect()
}

/// The SHA-256 of a file's bytes, as the kernel checks it.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Looks at the text as the compiler meant it to be read.
fn refuse_privileged(text: &Text) -> Result<()> {
    for (address, code) in text.functions() {
        let mut refused = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        if let Some(instruction) = refused.iter().find(is_refused) {
            let (what, place) = (instruction.mnemonic(), text.place(instruction.ip()));
            bail!("{what:?} in {place}: no domain may execute it");
        }
    }
    Ok(())
}

/// Whether an instruction is privileged, leaves the domain other than through a gate, or changes what the kernel
/// relies on.
fn is_refused(instruction: &Instruction) -> bool {
    let loads_segment = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_segment_register()
        && matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop);
    let far = matches!(
        instruction.mnemonic(),
        Mnemonic::Retf
            | Mnemonic::Iret
            | Mnemonic::Iretd
            | Mnemonic::Iretq
            | Mnemonic::Uiret
            | Mnemonic::Lds
            | Mnemonic::Les
            | Mnemonic::Lfs
            | Mnemonic::Lgs
            | Mnemonic::Lss
    ) || instruction.is_call_far()
        || instruction.is_call_far_indirect()
        || instruction.is_jmp_far()
        || instruction.is_jmp_far_indirect();
    // INT3 and UD2 are how a program stops; other interrupts are entries that the kernel did not offer.
    let interrupts = instruction.flow_control() == FlowControl::Interrupt
        && !matches!(instruction.mnemonic(), Mnemonic::Int3 | Mnemonic::Ud2);
    let flags = matches!(instruction.mnemonic(), Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq);
    let keys = matches!(
        instruction.mnemonic(),
        Mnemonic::Wrpkru
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
            | Mnemonic::Wrgsbase
            | Mnemonic::Wrfsbase
            | Mnemonic::Syscall
            | Mnemonic::Sysenter
    );
    let invalid = instruction.code() == Code::INVALID;
    instruction.is_privileged() || loads_segment || far || interrupts || flags || keys || invalid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> bool {
        is_refused(&Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode())
    }

    #[test]
    fn no_domain_may_execute_these() {
        for (name, bytes) in [
            ("CLI", &[0xfa][..]),
            ("HLT", &[0xf4]),
            ("OUT", &[0xee]),
            ("WRMSR", &[0x0f, 0x30]),
            ("RDMSR", &[0x0f, 0x32]),
            ("MOV CR0", &[0x0f, 0x22, 0xc0]),
            ("IRETQ", &[0x48, 0xcf]),
            ("RETF", &[0xcb]),
            ("CALL FAR", &[0xff, 0x18]),
            ("JMP FAR", &[0xff, 0x28]),
            ("INT 80h", &[0xcd, 0x80]),
            ("INT1", &[0xf1]),
            ("POPFQ", &[0x9d]),
            ("MOV SS", &[0x8e, 0xd0]),
            ("POP FS", &[0x0f, 0xa1]),
            ("LSS", &[0x0f, 0xb2, 0x00]),
            ("WRGSBASE", &[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
            ("WRPKRU", &[0x0f, 0x01, 0xef]),
            ("SYSCALL", &[0x0f, 0x05]),
            ("SWAPGS", &[0x0f, 0x01, 0xf8]),
            ("no instruction", &[0x06]),
        ] {
            assert!(refused(bytes), "{name}");
        }
    }

    #[test]
    fn ordinary_instructions_pass() {
        for (name, bytes) in [
            ("MOV", &[0x48, 0x89, 0xc8][..]),
            ("RET", &[0xc3]),
            ("CALL", &[0xe8, 0, 0, 0, 0]),
            ("CALL through memory", &[0xff, 0x10]),
            ("INT3", &[0xcc]),
            ("UD2", &[0x0f, 0x0b]),
            ("PAUSE", &[0xf3, 0x90]),
            ("PUSHFQ", &[0x9c]),
            ("LOCK CMPXCHG", &[0xf0, 0x0f, 0xb1, 0x0a]),
            ("MOV from DS", &[0x8c, 0xd8]),
            ("RDTSC", &[0x0f, 0x31]),
            ("CPUID", &[0x0f, 0xa2]),
        ] {
            assert!(!refused(bytes), "{name}");
        }
    }
}
