//! Finds instructions that lift a domain over its wall, at every byte offset of text.
//!
//! Domains run in ring 0 and can jump to any byte of what is executable, so an instruction counts that begins in the
//! middle of another, in a displacement, or across two pages. Only what no feature bit switches off must be looked
//! for: SYSCALL, XRSTOR, VMX, SMX, FRED and the rest of their kind are #UD or #GP with the control registers and
//! MSRs that the kernel sets (docs/threat-model.md). Opcodes of one byte (CLI, OUT, IRET) come about by accident in every KiB
//! of text; what they can do is part of the threat model.
//!
//! Opcodes: Intel SDM vol. 2, appendix A; prefixes do not change which of them these bytes are, so none is looked at.
#![forbid(unsafe_code)]

use thiserror::Error;

use crate::elf::{Image, Protection};

/// What an instruction would do that no domain may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Escape {
    /// MOV to CR0, CR3, CR4 or CR8.
    #[error("MOV to a control register")]
    ControlRegister,
    /// MOV to a debug register.
    #[error("MOV to a debug register")]
    DebugRegister,
    /// WRMSR, WRMSRNS, WRMSRLIST, or WRMSRNS with an immediate.
    #[error("WRMSR")]
    Msr,
    /// LGDT, LIDT or LMSW.
    #[error("LGDT, LIDT or LMSW")]
    DescriptorTable,
    /// LLDT or LTR.
    #[error("LLDT or LTR")]
    LocalTable,
    /// XSETBV.
    #[error("XSETBV")]
    ExtendedControl,
    /// WRPKRU: with PKU it is what opens keys.
    #[error("WRPKRU")]
    UserKeys,
    /// SWAPGS.
    #[error("SWAPGS")]
    SwapGs,
    /// PCONFIG.
    #[error("PCONFIG")]
    PlatformConfiguration,
    /// INVD: drops what other domains have written and the caches still hold.
    #[error("INVD")]
    DropCaches,
}

/// Where text holds such an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{escape} at offset {offset:#x}")]
pub struct Finding {
    /// Bytes from the start of the text.
    pub offset: u64,
    /// What it would do.
    pub escape: Escape,
}

/// As many bytes as it takes to know each of them.
const LONGEST: usize = 6;
/// Bytes in a page.
const PAGE: usize = 4096;
/// What the loader fills executable pages with behind an image's text: INT3, so that a jump there traps.
pub const FILL: u8 = 0xcc;

/// The register field of a ModRM byte.
const fn field(modrm: u8) -> u8 {
    modrm >> 3 & 7
}

/// Which escape begins with these bytes, if one does. A byte that is not there may have any value.
#[must_use]
pub fn escape_at(bytes: &[u8]) -> Option<Escape> {
    let at = |n: usize| bytes.get(n).copied();
    match at(0)? {
        0x0f => two_byte(at(1), at(2)),
        // VEX and EVEX, opcode map 7, prefix F3, opcode F6 /0 of a register: WRMSRNS with an immediate. With F2 it is RDMSR.
        0xc4 if may(at(1), |byte| byte & 0x1f == 7) && msr_immediate(at(2), at(3), at(4)) => {
            Some(Escape::Msr)
        }
        0x62 if may(at(1), |byte| byte & 7 == 7) && msr_immediate(at(2), at(4), at(5)) => Some(Escape::Msr),
        _ => None,
    }
}

/// Whether a byte may be one that satisfies the condition.
fn may(byte: Option<u8>, condition_fn: impl Fn(u8) -> bool) -> bool {
    byte.is_none_or(condition_fn)
}

fn msr_immediate(prefix: Option<u8>, opcode: Option<u8>, modrm: Option<u8>) -> bool {
    may(prefix, |byte| byte & 3 == 2)
        && may(opcode, |byte| byte == 0xf6)
        && may(modrm, |byte| byte >> 3 == 0b11_000)
}

fn two_byte(opcode: Option<u8>, modrm: Option<u8>) -> Option<Escape> {
    let fields = |fields: &[u8]| may(modrm, |modrm| fields.contains(&field(modrm)));
    // Of text that ends with 0F anything may follow; the first in the list stands for all.
    let Some(opcode) = opcode else { return Some(Escape::LocalTable) };
    match opcode {
        0x00 if fields(&[2, 3]) => Some(Escape::LocalTable),
        0x01 => group_7(modrm),
        0x08 => Some(Escape::DropCaches),
        // CR1, CR5 to CR7 are #UD, CR2 is harmless.
        0x22 if fields(&[0, 3, 4]) => Some(Escape::ControlRegister),
        // DR4 and DR5 are #UD, since CR4.DE is set.
        0x23 if fields(&[0, 1, 2, 3, 6, 7]) => Some(Escape::DebugRegister),
        0x30 => Some(Escape::Msr),
        _ => None,
    }
}

fn group_7(modrm: Option<u8>) -> Option<Escape> {
    let Some(modrm) = modrm else { return Some(Escape::DescriptorTable) };
    match (modrm, field(modrm)) {
        (0xc5, _) => Some(Escape::PlatformConfiguration),
        (0xc6, _) => Some(Escape::Msr),
        (0xd1, _) => Some(Escape::ExtendedControl),
        (0xef, _) => Some(Escape::UserKeys),
        (0xf8, _) => Some(Escape::SwapGs),
        (_, 6) | (..0xc0, 2 | 3) => Some(Escape::DescriptorTable),
        _ => None,
    }
}

/// Looks through the text of an image as it will lie in memory: whole pages, whose ends the loader fills with [`FILL`].
///
/// # Errors
/// The first [`Finding`]; its offset counts from the image's start.
pub fn image(image: &Image<'_>) -> Result<(), Finding> {
    let executable = image.segments().iter().filter(|segment| segment.protection == Protection::ReadExecute);
    executable.map(|segment| (segment.vaddr, segment.data)).try_for_each(|(at, data)| segment(at, data))
}

/// The same for one segment that lies at `at` and whose data fills its memory.
fn segment(at: u64, data: &[u8]) -> Result<(), Finding> {
    let missing = data.len().next_multiple_of(PAGE) - data.len();
    let known = data.len().saturating_sub(LONGEST - 1);
    // Behind the last page nothing is known.
    let mut end: heapless::Vec<u8, { 2 * LONGEST }> = data[known..].iter().copied().collect();
    end.extend(core::iter::repeat_n(FILL, missing.min(LONGEST - 1)));
    let within = (0..known).map(|n| (n, escape_at(&data[n..])));
    let at_end = (known..data.len()).map(|n| (n, escape_at(&end[n - known..])));
    within.chain(at_end).try_for_each(|(n, escape)| match escape {
        Some(escape) => Err(Finding { offset: at + n as u64, escape }),
        None => Ok(()),
    })
}

/// All findings in text that is complete.
pub fn findings(text: &[u8]) -> impl Iterator<Item = Finding> {
    (0..text.len()).filter_map(|n| escape_at(&text[n..]).map(|escape| Finding { offset: n as u64, escape }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn first(text: &[u8]) -> Option<Escape> {
        findings(text).next().map(|finding| finding.escape)
    }

    #[test]
    fn knows_each_instruction() {
        for (bytes, escape) in [
            (&[0x0f, 0x22, 0xc0][..], Escape::ControlRegister),
            (&[0x0f, 0x22, 0xd8], Escape::ControlRegister),
            (&[0x0f, 0x22, 0xe7], Escape::ControlRegister),
            (&[0x44, 0x0f, 0x22, 0xc0], Escape::ControlRegister),
            (&[0x0f, 0x23, 0xf8], Escape::DebugRegister),
            (&[0x0f, 0x30, 0x90], Escape::Msr),
            (&[0x0f, 0x01, 0xc6], Escape::Msr),
            (&[0xf3, 0x0f, 0x01, 0xc6], Escape::Msr),
            (&[0xc4, 0xe7, 0x7a, 0xf6, 0xc0, 0, 0, 0, 0], Escape::Msr),
            (&[0x62, 0xf7, 0x7e, 0x08, 0xf6, 0xc0, 0, 0, 0, 0], Escape::Msr),
            (&[0x0f, 0x01, 0x10], Escape::DescriptorTable),
            (&[0x0f, 0x01, 0x18], Escape::DescriptorTable),
            (&[0x0f, 0x01, 0x30], Escape::DescriptorTable),
            (&[0x0f, 0x01, 0xf0], Escape::DescriptorTable),
            (&[0x0f, 0x00, 0xd0], Escape::LocalTable),
            (&[0x0f, 0x00, 0x18], Escape::LocalTable),
            (&[0x0f, 0x01, 0xd1], Escape::ExtendedControl),
            (&[0x0f, 0x01, 0xf8], Escape::SwapGs),
            (&[0x0f, 0x01, 0xc5], Escape::PlatformConfiguration),
            (&[0x0f, 0x08, 0x90], Escape::DropCaches),
        ] {
            assert_eq!(first(bytes), Some(escape), "{bytes:x?}");
            // In the middle of MOV RAX, imm64 as well.
            let hidden = [&[0x48, 0xb8][..], bytes, &[0x90; 8]].concat();
            assert_eq!(first(&hidden), Some(escape), "{hidden:x?}");
        }
    }

    #[test]
    fn lets_pass_what_does_no_harm() {
        for bytes in [
            &[0x0f, 0x22, 0xd0, 0x90, 0x90][..],         // CR2
            &[0x0f, 0x22, 0xc8, 0x90, 0x90],             // CR1: #UD
            &[0x0f, 0x23, 0xe0, 0x90, 0x90],             // DR4: #UD
            &[0x0f, 0x20, 0xc0, 0x90, 0x90],             // MOV from CR0
            &[0x0f, 0x32, 0x90, 0x90, 0x90],             // RDMSR
            &[0x0f, 0x01, 0x00, 0x90, 0x90],             // SGDT
            &[0x0f, 0x01, 0x38, 0x90, 0x90],             // INVLPG
            &[0x0f, 0x00, 0xc0, 0x90, 0x90],             // SLDT
            &[0x0f, 0x0b, 0x90, 0x90, 0x90],             // UD2
            &[0xc4, 0xe2, 0x7a, 0xf6, 0xc0, 0x90, 0x90], // map 2
            &[0xc4, 0xe7, 0x7b, 0xf6, 0xc0, 0x90, 0x90], // RDMSR
            &[0xc4, 0xe7, 0x7a, 0xf6, 0x00, 0x90, 0x90], // of memory: #UD
        ] {
            assert_eq!(first(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn the_end_of_the_last_page_may_go_on_in_any_way() {
        for bytes in [&[0x0f][..], &[0x0f, 0x01], &[0x0f, 0x22], &[0x0f, 0x00], &[0xc4], &[0x62, 0xf7, 0x7e]]
        {
            let mut text = vec![0x90; PAGE - bytes.len()];
            text.extend(bytes);
            let offset = 0x5000 + (PAGE - bytes.len()) as u64;
            assert_eq!(segment(0x5000, &text).map_err(|finding| finding.offset), Err(offset), "{bytes:x?}");
            // With a byte to spare INT3 follows: 0F CC, 0F 01 CC, 0F 22 CC and the like are harmless or #UD.
            text.remove(0);
            assert_eq!(segment(0x5000, &text).is_err(), bytes == [0x62, 0xf7, 0x7e], "{bytes:x?}");
        }
    }

    #[test]
    fn an_escape_across_two_pages_is_found() {
        for cut in 1..3 {
            let mut text = vec![0x90; 2 * PAGE + 100];
            text[PAGE - cut..][..3].copy_from_slice(&[0x0f, 0x22, 0xd8]);
            let finding = Finding { offset: (PAGE - cut) as u64, escape: Escape::ControlRegister };
            assert_eq!(segment(0, &text), Err(finding));
        }
    }

    proptest! {
        /// The two ways to look find the same where text is followed by what is known.
        #[test]
        fn the_end_makes_no_difference_where_a_page_goes_on(
            text in proptest::collection::vec(
                prop_oneof![Just(0x0f), Just(0x22), Just(0x01), Just(0x62), Just(0xf7), Just(0xf6), any::<u8>()],
                0..60,
            ),
        ) {
            let filled = [&text[..], &[FILL; LONGEST]].concat();
            let wanted = findings(&filled).find(|finding| finding.offset < text.len() as u64);
            prop_assert_eq!(segment(0, &text).err(), wanted);
        }
    }
}
