//! Other bytes for the same instruction.
//!
//! x86 has two encodings of many instructions between registers (the operand that ModRM.rm names may be source or
//! destination), and base and index of an address may change places where the scale is 1 (Intel SDM vol. 2A, 2.1.5).
//! Both are as long as the first, and touch just the bytes that most accidents are made of.

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, OpKind, Register};
use libpks::verify::{self, Finding};

/// Bytes to be replaced, counted from a function's start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

/// The bytes of an escape that make it one, at most.
const ESCAPE: u64 = 6;
/// Bytes before and behind a change in which it must not bring about another escape.
const MARGIN: usize = 8;

/// The instructions of a function, whose code begins at `start`, that the escape at the finding's address may touch, each
/// with its offset.
pub(super) fn touched(code: &[u8], start: u64, finding: Finding) -> Vec<(usize, Instruction)> {
    let Some(at) = finding.offset.checked_sub(start) else { return Vec::new() };
    let touches = |instruction: &Instruction| instruction.next_ip() > finding.offset;
    let begins_before = |instruction: &Instruction| instruction.ip() - start < at + ESCAPE;
    let instructions = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let touched = instructions.into_iter().take_while(begins_before).filter(touches);
    touched.map(|instruction| ((instruction.ip() - start) as usize, instruction)).collect()
}

/// How an instruction at an offset of the code can be written in another way and without an escape.
pub(super) fn twin(code: &[u8], offset: usize, instruction: &Instruction) -> Option<Change> {
    let others = others(&code[offset..offset + instruction.len()]);
    let bytes = others.into_iter().find(|bytes| is_clean(code, offset, bytes))?;
    Some(Change { offset, bytes })
}

/// Whether there is no escape around the place where `bytes` are put.
pub(super) fn is_clean(code: &[u8], offset: usize, bytes: &[u8]) -> bool {
    let window = offset.saturating_sub(MARGIN)..(offset + bytes.len() + MARGIN).min(code.len());
    let mut changed = code[window.clone()].to_vec();
    changed[offset - window.start..][..bytes.len()].copy_from_slice(bytes);
    let end = offset + bytes.len() - window.start;
    // What begins behind the change has not come with it; what is not seen behind the function counts against it.
    verify::findings(&changed).all(|finding| finding.offset >= end as u64)
}

/// All other encodings of an instruction, each as long as it.
fn others(bytes: &[u8]) -> Vec<Vec<u8>> {
    let Some(original) = decode(bytes) else { return Vec::new() };
    let Some(parts) = Parts::of(bytes) else { return Vec::new() };
    let candidates = [parts.with_operands_turned(bytes), parts.with_index_for_base(bytes)];
    let same = |candidate: &Vec<u8>| decode(candidate).is_some_and(|it| does_the_same(&original, &it));
    candidates.into_iter().flatten().filter(|candidate| candidate != bytes).filter(same).collect()
}

fn decode(bytes: &[u8]) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    (!instruction.is_invalid() && instruction.len() == bytes.len()).then_some(instruction)
}

/// Where the parts of an instruction are that has a ModRM byte.
struct Parts {
    rex: Option<usize>,
    opcode: usize,
    modrm: usize,
}

const REX_R: u8 = 4;
const REX_X: u8 = 2;
const REX_B: u8 = 1;

impl Parts {
    fn of(bytes: &[u8]) -> Option<Self> {
        let is_prefix = |byte: &u8| {
            matches!(byte, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
        };
        let prefixes = bytes.iter().take_while(|byte| is_prefix(byte)).count();
        let rex = bytes.get(prefixes).is_some_and(|byte| byte & 0xf0 == 0x40).then_some(prefixes);
        let opcode = prefixes + usize::from(rex.is_some());
        let modrm = match (bytes.get(opcode)?, bytes.get(opcode + 1)) {
            (0x0f, Some(0x38 | 0x3a)) => opcode + 3,
            (0x0f, _) => opcode + 2,
            _ => opcode + 1,
        };
        (modrm < bytes.len()).then_some(Self { rex, opcode, modrm })
    }

    /// `op rm, r` as `op r, rm` or the other way round.
    fn with_operands_turned(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (opcode, modrm) = (bytes[self.opcode], bytes[self.modrm]);
        let turns = matches!(opcode, 0x00..=0x3f if opcode & 7 < 4) || matches!(opcode, 0x88..=0x8b);
        if !turns || modrm < 0xc0 {
            return None;
        }
        let mut turned = bytes.to_vec();
        turned[self.opcode] ^= 2;
        turned[self.modrm] = 0xc0 | (modrm & 7) << 3 | modrm >> 3 & 7;
        self.exchange(&mut turned, REX_R, REX_B);
        Some(turned)
    }

    /// `[base + index]` as `[index + base]`.
    fn with_index_for_base(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (modrm, sib) = (bytes[self.modrm], *bytes.get(self.modrm + 1)?);
        if modrm >= 0xc0 || modrm & 7 != 4 || sib >> 6 != 0 {
            return None;
        }
        let mut turned = bytes.to_vec();
        turned[self.modrm + 1] = (sib & 7) << 3 | sib >> 3 & 7;
        self.exchange(&mut turned, REX_X, REX_B);
        Some(turned)
    }

    fn exchange(&self, bytes: &mut [u8], one: u8, other: u8) {
        let Some(rex) = self.rex else { return };
        let (has_one, has_other) = (bytes[rex] & one != 0, bytes[rex] & other != 0);
        if has_one != has_other {
            bytes[rex] ^= one | other;
        }
    }
}

/// Whether two instructions of the same length are the same but for their encoding.
fn does_the_same(one: &Instruction, other: &Instruction) -> bool {
    let prefixes = |it: &Instruction| {
        (it.has_lock_prefix(), it.has_rep_prefix(), it.has_repne_prefix(), it.segment_prefix())
    };
    let operands =
        |it: &Instruction| (0..it.op_count()).map(|n| (it.op_kind(n), operand(it, n))).collect::<Vec<_>>();
    let address = |it: &Instruction| {
        let mut registers = [it.memory_base(), it.memory_index()];
        if it.memory_index_scale() == 1 {
            registers.sort_by_key(|register| *register as u32);
        }
        // The default segment is that of the stack for RSP and RBP; in 64-bit mode both begin at 0 (SDM vol. 1, 3.4.2.1).
        (registers, it.memory_index_scale(), it.memory_displacement64())
    };
    let size = |it: &Instruction| it.memory_size();
    one.mnemonic() == other.mnemonic()
        && prefixes(one) == prefixes(other)
        && operands(one) == operands(other)
        && size(one) == size(other)
        && (size(one) == MemorySize::Unknown || address(one) == address(other))
}

/// An operand's register or immediate.
fn operand(instruction: &Instruction, n: u32) -> (Register, u64) {
    match instruction.op_kind(n) {
        OpKind::Register => (instruction.op_register(n), 0),
        OpKind::Memory => (Register::None, 0),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            (Register::None, instruction.near_branch_target())
        }
        _ => (Register::None, instruction.try_immediate(n).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recoded(code: &[u8]) -> Option<Vec<u8>> {
        let finding = verify::findings(code).next().expect("an accident");
        let touched = touched(code, 0, finding);
        touched.iter().find_map(|(offset, instruction)| twin(code, *offset, instruction)).map(|change| {
            let mut changed = code.to_vec();
            changed[change.offset..][..change.bytes.len()].copy_from_slice(&change.bytes);
            changed
        })
    }

    #[test]
    fn base_and_index_change_places() {
        // MOV [RDI+RCX+8], SIL
        let clean = recoded(&[0x40, 0x88, 0x74, 0x0f, 0x08, 0x90, 0x90, 0x90]);
        assert_eq!(clean.as_deref(), Some(&[0x40, 0x88, 0x74, 0x39, 0x08, 0x90, 0x90, 0x90][..]));
        // With R9 for RCX
        let clean = recoded(&[0x42, 0x88, 0x74, 0x0f, 0x08, 0x90, 0x90, 0x90]);
        assert_eq!(clean.as_deref(), Some(&[0x41, 0x88, 0x74, 0x39, 0x08, 0x90, 0x90, 0x90][..]));
    }

    #[test]
    fn the_operands_of_two_registers_change_places() {
        // ROL ECX, 15; ADD ESI, EAX
        let clean = recoded(&[0xc1, 0xc1, 0x0f, 0x01, 0xc6, 0x90, 0x90, 0x90, 0x90]);
        assert_eq!(clean.as_deref(), Some(&[0xc1, 0xc1, 0x0f, 0x03, 0xf0, 0x90, 0x90, 0x90, 0x90][..]));
        // ROL ECX, 15; AND R8B, AL with a REX prefix between them is no accident; without one MOVs are none either.
        assert!(verify::findings(&[0xc1, 0xc1, 0x0f, 0x41, 0x20, 0xc0, 0x90, 0x90, 0x90]).next().is_none());
    }

    #[test]
    fn what_has_one_encoding_stays() {
        // JAE with a displacement of 80Fh
        assert_eq!(recoded(&[0x0f, 0x83, 0x0f, 0x08, 0, 0, 0x90, 0x90]), None);
        // MOV EAX, imm32
        assert_eq!(recoded(&[0xb8, 0x0f, 0x30, 0, 0, 0x90, 0x90, 0x90]), None);
        // [RDI+RCX*2+8]: base and index are not alike; [RBP+RCX]: RCX+RBP with no displacement does not exist
        assert!(others(&[0x40, 0x88, 0x74, 0x4f, 0x08]).is_empty());
        assert!(others(&[0x88, 0x04, 0x29]).is_empty(), "[RCX+RBP] has no twin without a displacement");
        // [RSP+RCX]: RSP is no index
        assert!(others(&[0x88, 0x04, 0x0c]).is_empty());
        // A twin would not remove the escape behind MOV ESI, EAX.
        assert_eq!(recoded(&[0x89, 0xc6, 0xb8, 0x0f, 0x30, 0, 0, 0x90]), None);
    }

    #[test]
    fn every_other_encoding_means_the_same() {
        let mut seen = 0;
        for prefix in [&[][..], &[0x48], &[0x41], &[0x44], &[0x4d], &[0x66], &[0xf0], &[0x42]] {
            for (opcode, modrm) in
                (0..=0xff_u8).flat_map(|opcode| (0..=0xff_u8).map(move |modrm| (opcode, modrm)))
            {
                let bytes = [prefix, &[opcode, modrm, 0x0f, 0x08, 0, 0, 0, 0, 0]].concat();
                let length = Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE).decode().len();
                for other in others(&bytes[..length]) {
                    let (one, other) = (text(&bytes[..length]), text(&other));
                    assert!(one == other || turned(&one) == other, "{one} became {other}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 10_000, "only {seen} instructions have another encoding");
    }

    /// Mnemonic and operands as a disassembler writes them.
    fn text(bytes: &[u8]) -> String {
        format!("{}", decode(bytes).expect("an instruction"))
    }

    /// The same with the first two terms of the address exchanged.
    fn turned(text: &str) -> String {
        let Some((before, rest)) = text.split_once('[') else { return text.to_owned() };
        let (inside, after) = rest.split_once(']').expect("a closing bracket");
        let end = inside[inside.find('+').map_or(0, |at| at + 1)..].find(['+', '-']);
        let end = end.map_or(inside.len(), |at| at + inside.find('+').map_or(0, |at| at + 1));
        let Some((base, index)) = inside[..end].split_once('+') else { return text.to_owned() };
        format!("{before}[{index}+{base}{}]{after}", &inside[end..])
    }
}
