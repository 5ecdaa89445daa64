//! Another way to the target of a displacement.
//!
//! Functions begin at multiples of 16 bytes, with INT3 between them. A branch whose displacement holds an accident can go
//! to such a gap instead, where a JMP leads on to its target. An instruction that reaches memory relative to RIP can be
//! moved into a gap, with a JMP there and one back. The displacements are other ones then.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};
use libpks::verify;

use super::recode::{Change, is_clean};

/// The length of JMP rel32, and of the displacement at its end.
const JUMP: usize = 5;
const DISPLACEMENT: usize = 4;
/// The most bytes that a gap needs.
pub(super) const LONGEST: usize = 15 + JUMP;

/// What to put in the place of an instruction, and what in the gap.
pub(super) type Detour = (Change, Vec<u8>);

/// How the instruction at `offset` in `code`, which begins at `start`, goes by way of the gap of `room` bytes at an address.
/// `None` if it has no displacement of four bytes, or this gap does not help.
pub(super) fn through(
    code: &[u8],
    offset: usize,
    instruction: &Instruction,
    gap: u64,
    room: usize,
) -> Option<Detour> {
    let bytes = &code[offset..offset + instruction.len()];
    let (there, in_gap) = match instruction.op0_kind() {
        _ if bytes.len() < JUMP => return None,
        OpKind::NearBranch64 => by_way_of(bytes, instruction, gap)?,
        _ if instruction.is_ip_rel_memory_operand() => moved(bytes, instruction, gap)?,
        _ => return None,
    };
    // Behind what is put there, the gap or the next function goes on.
    let surrounded = [&[verify::FILL; JUMP][..], &in_gap, &[verify::FILL; LONGEST]].concat();
    let in_gap_clean = verify::findings(&surrounded[..surrounded.len() - JUMP]).next().is_none();
    let clean = is_clean(code, offset, &there) && in_gap_clean;
    (clean && in_gap.len() <= room).then_some((Change { offset, bytes: there }, in_gap))
}

/// A branch to the gap, and there a jump to its target.
fn by_way_of(bytes: &[u8], instruction: &Instruction, gap: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut branch = bytes.to_vec();
    let end = branch.len() - DISPLACEMENT;
    branch[end..].copy_from_slice(&displacement(instruction.next_ip(), gap)?);
    Some((branch, jump(gap, instruction.near_branch_target())?))
}

/// A jump to the gap, and there the instruction and a jump back.
fn moved(bytes: &[u8], instruction: &Instruction, gap: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut decoder = Decoder::with_ip(64, bytes, instruction.ip(), DecoderOptions::NONE);
    let instruction = &decoder.decode();
    let offsets = decoder.get_constant_offsets(instruction);
    if offsets.displacement_size() != DISPLACEMENT {
        return None;
    }
    let next = gap + bytes.len() as u64;
    let mut there = bytes.to_vec();
    let place = &mut there[offsets.displacement_offset()..][..DISPLACEMENT];
    place.copy_from_slice(&displacement(next, instruction.ip_rel_memory_address())?);
    there.extend(jump(next, instruction.next_ip())?);
    let mut away = jump(instruction.ip(), gap)?;
    away.resize(bytes.len(), verify::FILL);
    Some((away, there))
}

/// JMP from one address to another.
fn jump(from: u64, to: u64) -> Option<Vec<u8>> {
    Some([&[0xe9][..], &displacement(from + JUMP as u64, to)?].concat())
}

/// The displacement from the end of an instruction to its target.
fn displacement(from: u64, to: u64) -> Option<[u8; DISPLACEMENT]> {
    let distance = to.wrapping_sub(from).cast_signed();
    Some(i32::try_from(distance).ok()?.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn decode(code: &[u8], ip: u64) -> Instruction {
        Decoder::with_ip(64, code, ip, DecoderOptions::NONE).decode()
    }

    #[test]
    fn a_branch_reaches_its_target_through_a_gap() {
        // JAE and CALL with a displacement of 80Fh
        for code in [&[0x0f, 0x83, 0x0f, 0x08, 0, 0, 0x90][..], &[0xe8, 0x0f, 0x08, 0, 0, 0x90]] {
            let original = decode(code, 0x1000);
            let (change, jump) = through(code, 0, &original, 0x1234, 5).expect("a way");
            let branch = decode(&change.bytes, 0x1000);
            assert_eq!((branch.mnemonic(), branch.len()), (original.mnemonic(), original.len()));
            assert_eq!(branch.near_branch_target(), 0x1234);
            let on = decode(&jump, 0x1234);
            assert_eq!((on.is_jmp_near(), on.near_branch_target()), (true, original.near_branch_target()));
        }
    }

    #[test]
    fn memory_is_reached_from_the_gap() {
        // LEA RDX, [RIP-...], CALL [RIP+...], and one with an immediate behind the displacement: CMP DWORD [RIP+...], 7
        let (lea, call) =
            (&[0x48, 0x8d, 0x15, 0x0f, 0x23, 0xfb, 0xff][..], &[0xff, 0x15, 0x61, 0x0f, 0x08, 0][..]);
        for code in [lea, call, &[0x83, 0x3d, 0x0f, 0x30, 0, 0, 7]] {
            let (original, code) = (decode(code, 0x1000), [code, &[0x90; 8]].concat());
            let (change, there) = through(&code, 0, &original, 0x1234, 12).expect("a way");
            assert_eq!(change.bytes.len(), original.len());
            assert_eq!(decode(&change.bytes, 0x1000).near_branch_target(), 0x1234);
            let moved = decode(&there, 0x1234);
            assert_eq!((moved.code(), moved.len()), (original.code(), original.len()));
            assert_eq!(moved.ip_rel_memory_address(), original.ip_rel_memory_address());
            let back = decode(&there[moved.len()..], moved.next_ip());
            assert_eq!((back.is_jmp_near(), back.near_branch_target()), (true, original.next_ip()));
            assert!(through(&code, 0, &original, 0x1234, original.len() + 4).is_none(), "too little room");
        }
    }

    #[test]
    fn what_is_no_long_branch_has_no_detour() {
        for code in [&[0xeb, 0x0f][..], &[0xb8, 0x0f, 0x08, 0, 0], &[0x48, 0x8b, 0x85, 0x0f, 0x08, 0, 0]] {
            assert!(through(code, 0, &decode(code, 0x1000), 0x1234, 50).is_none(), "{code:x?}");
        }
        let far = &[0xe8, 0x0f, 0x08, 0, 0][..];
        assert!(through(far, 0, &decode(far, 0x1000), 0x2_0000_0000, 50).is_none(), "a gap out of reach");
    }

    #[test]
    fn a_gap_that_brings_another_accident_is_not_taken() {
        let code = &[0xe8, 0x0f, 0x08, 0, 0, 0x90][..];
        // From the end of the branch to there it is 220Fh: MOV to a control register.
        let gap = 0x1005 + 0x00c0_220f;
        assert!(through(code, 0, &decode(code, 0x1000), gap, 50).is_none());
        // The jump on from there is the one with 80Fh.
        let target = decode(code, 0x1000).near_branch_target();
        assert!(through(code, 0, &decode(code, 0x1000), target - 5 - 0x80f, 50).is_none());
    }
}
