//! The scan for escapes against a decoder of instructions.
//!
//! Wherever the decoder, begun at any byte, sees an instruction that no domain may have, the scan must have flagged a byte
//! of it. Where the scan flags a byte that begins no such instruction, there must be a reason, and the reasons are
//! counted ([`Tally`]).

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, Register};
use libpks::verify::{Escape, escape_at, findings};

/// As many bytes as an instruction has at most (Intel SDM vol. 2A, 2.3.11).
const LONGEST: usize = 15;
/// How the scan and the decoder have agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Instructions that the decoder refuses a domain, prefixes and all.
    pub refused: usize,
    /// Flagged bytes that begin such an instruction.
    pub agreed: usize,
    /// Flagged bytes with too few behind them to tell: they may begin one.
    pub cut: usize,
    /// WRMSRNS with an immediate, which the decoder does not know.
    pub unknown: usize,
}

impl Tally {
    /// Adds what another input gave.
    pub fn add(&mut self, other: Self) {
        self.refused += other.refused;
        self.agreed += other.agreed;
        self.cut += other.cut;
        self.unknown += other.unknown;
    }
}

/// Runs the target.
pub fn run(text: &[u8]) {
    let _ = compare(text);
}

/// Compares the two on some text.
#[must_use]
pub fn compare(text: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let flagged: Vec<usize> = findings(text).map(|finding| finding.offset as usize).collect();
    for start in 0..text.len() {
        let Some((escape, end)) = refused(text, start) else { continue };
        tally.refused += 1;
        assert!(
            flagged.iter().any(|at| (start..end).contains(at)),
            "{escape:?} at {start} is not seen: {:02x?}",
            &text[start..end]
        );
    }
    for start in (0..text.len()).filter(|start| is_immediate_form(&text[*start..])) {
        assert!(flagged.contains(&start), "WRMSRNS at {start} is not seen: {:02x?}", &text[start..]);
    }
    for at in flagged {
        let escape = escape_at(&text[at..]).expect("it is flagged");
        match refused(text, at) {
            Some((other, _)) => {
                assert_eq!(other, escape, "at {at}: {:02x?}", &text[at..]);
                tally.agreed += 1;
            }
            None => explain(text, at, escape, &mut tally),
        }
    }
    tally
}

/// Why a byte is flagged at which no such instruction is decoded.
fn explain(text: &[u8], at: usize, escape: Escape, tally: &mut Tally) {
    let bytes = &text[at..];
    match bytes[0] {
        0xc4 | 0x62 if is_immediate_form(bytes) => tally.unknown += 1,
        0x0f if may_go_on_as_escape(bytes) => tally.cut += 1,
        _ => panic!("flagged as {escape:?} without reason: {bytes:02x?}"),
    }
}

/// Whether some continuation of these bytes is an instruction that no domain may have.
fn may_go_on_as_escape(bytes: &[u8]) -> bool {
    let goes_on = |more: &[u8]| refused(&[bytes, more, &[0; LONGEST]].concat(), 0).is_some();
    let mut pairs = (0..=u8::MAX).flat_map(|second| (0..=u8::MAX).map(move |third| [second, third]));
    match bytes.len() {
        0 | 1 => pairs.any(|pair| goes_on(&pair)),
        2 => (0..=u8::MAX).any(|third| goes_on(&[third])),
        _ => goes_on(&[]),
    }
}

/// Whether the bytes are, or may go on as, WRMSRNS with an immediate: VEX or EVEX, map 7, F3, opcode F6 /0 of a register
/// (Intel SDM vol. 2C, WRMSRNS).
fn is_immediate_form(bytes: &[u8]) -> bool {
    let masks: &[(u8, u8)] = match bytes[0] {
        0xc4 => &[(0xff, 0xc4), (0x1f, 7), (3, 2), (0xff, 0xf6), (0xf8, 0xc0)],
        0x62 => &[(0xff, 0x62), (7, 7), (3, 2), (0, 0), (0xff, 0xf6), (0xf8, 0xc0)],
        _ => return false,
    };
    masks.iter().zip(bytes).all(|((mask, wanted), byte)| byte & mask == *wanted)
}

/// What the decoder sees at a place, if no domain may have it, and where that ends.
fn refused(text: &[u8], start: usize) -> Option<(Escape, usize)> {
    let bytes = &text[start..text.len().min(start + LONGEST)];
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let escape = escape_of(&instruction)?;
    Some((escape, start + instruction.len()))
}

/// What an instruction would do that no domain may.
fn escape_of(instruction: &Instruction) -> Option<Escape> {
    Some(match instruction.mnemonic() {
        Mnemonic::Mov => match (instruction.code(), instruction.op0_register()) {
            (Code::Mov_cr_r64, Register::CR0 | Register::CR3 | Register::CR4 | Register::CR8) => {
                Escape::ControlRegister
            }
            (Code::Mov_dr_r64, Register::DR4 | Register::DR5) => return None,
            (Code::Mov_dr_r64, _) => Escape::DebugRegister,
            _ => return None,
        },
        Mnemonic::Wrmsr | Mnemonic::Wrmsrns | Mnemonic::Wrmsrlist => Escape::Msr,
        Mnemonic::Wrpkru => Escape::UserKeys,
        Mnemonic::Lgdt | Mnemonic::Lidt | Mnemonic::Lmsw => Escape::DescriptorTable,
        Mnemonic::Lldt | Mnemonic::Ltr => Escape::LocalTable,
        Mnemonic::Xsetbv => Escape::ExtendedControl,
        Mnemonic::Swapgs => Escape::SwapGs,
        Mnemonic::Pconfig => Escape::PlatformConfiguration,
        Mnemonic::Invd => Escape::DropCaches,
        _ => return None,
    })
}
