//! The counters, and what they make of marks.

use libpks::proto::bench::{Mark, WARM_UP};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Every instruction.
    Instruction,
    /// WRMSR. Once the system runs each writes PKRS (docs/traps.md lists them).
    PkrsWrite,
    /// MOV to CR3.
    Cr3Load,
    /// With a LOCK prefix, or XCHG with memory, which locks by itself.
    Locked,
}

static COUNTERS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static COUNTING: AtomicBool = AtomicBool::new(false);
static TRACED: AtomicBool = AtomicBool::new(false);

/// Whether this is between two marks.
pub(crate) fn is_counting() -> bool {
    COUNTING.load(Ordering::Relaxed)
}

/// Whether a row is traced.
pub(crate) fn is_traced() -> bool {
    TRACED.load(Ordering::Relaxed)
}

impl Kind {
    /// What an instruction counts as.
    pub(crate) fn of(bytes: &[u8]) -> impl Iterator<Item = Kind> {
        let prefixes = bytes.iter().take_while(|byte| is_prefix(**byte)).count();
        let locked = bytes[..prefixes].contains(&0xf0);
        let rest = &bytes[prefixes..];
        let kinds = [
            Some(Kind::Instruction),
            // WRMSR, WRPKRU.
            (rest.starts_with(&[0x0f, 0x30]) || rest.starts_with(&[0x0f, 0x01, 0xef]))
                .then_some(Kind::PkrsWrite),
            matches!(rest, [0x0f, 0x22, modrm, ..] if modrm >> 3 & 7 == 3).then_some(Kind::Cr3Load),
            (locked || matches!(rest, [0x86 | 0x87, modrm, ..] if modrm >> 6 != 3)).then_some(Kind::Locked),
        ];
        kinds.into_iter().flatten()
    }

    /// Where it is counted.
    pub(crate) fn counter(self) -> *mut u64 {
        COUNTERS[self as usize].as_ptr()
    }
}

/// Legacy prefixes and REX (Intel SDM vol. 2A, 2.1.1 and 2.2.1).
fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Turns marks into samples.
#[derive(Debug)]
pub(crate) struct Recorder {
    out: BufWriter<File>,
    row: u64,
    begun: [u64; 4],
    /// Cache lines of data since the mark.
    lines: Vec<u64>,
    /// The row that is traced, how many of its samples come before the one that is, and its instructions.
    traced: Option<u64>,
    before: u32,
    steps: Vec<u64>,
}

impl Recorder {
    pub(crate) fn new(path: &str, traced: Option<u64>) -> std::io::Result<Self> {
        TRACED.store(traced.is_some(), Ordering::Relaxed);
        let out = BufWriter::new(File::create(path)?);
        let (lines, steps) = (Vec::new(), Vec::new());
        Ok(Self { out, row: 0, begun: [0; 4], lines, traced, before: WARM_UP, steps })
    }

    /// An access to memory between two marks.
    pub(crate) fn touch(&mut self, address: u64) {
        let line = address >> 6;
        if !self.lines.contains(&line) && self.lines.len() < 4096 {
            self.lines.push(line);
        }
    }

    /// An instruction between two marks.
    pub(crate) fn step(&mut self, address: u64) {
        if self.traced == Some(self.row) && self.before == 0 {
            self.steps.push(address);
        }
    }

    /// Tells of the sample that is traced, and counts those before it.
    fn end_trace(&mut self) {
        if self.traced != Some(self.row) {
            return;
        }
        if let Some(before) = self.before.checked_sub(1) {
            self.before = before;
            return;
        }
        self.traced = None;
        for address in std::mem::take(&mut self.steps) {
            self.write(format_args!("at {address:x}"));
        }
    }

    /// A mark was executed.
    pub(crate) fn mark(&mut self, mark: u32) {
        let now = COUNTERS.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        match mark {
            mark if mark == Mark::Begin as u32 => {
                self.begun = now;
                self.lines.clear();
                COUNTING.store(true, Ordering::Relaxed);
            }
            // One without a beginning is a thread's that was not waited for.
            mark if mark == Mark::End as u32 && is_counting() => {
                COUNTING.store(false, Ordering::Relaxed);
                let [instructions, pkrs, cr3, locked] =
                    std::array::from_fn(|n| now[n].wrapping_sub(self.begun[n]));
                self.end_trace();
                let (row, lines) = (self.row, self.lines.len());
                self.write(format_args!("{row} {instructions} {pkrs} {cr3} {locked} {lines}"));
            }
            mark if mark == Mark::Next as u32 => self.row += 1,
            mark if mark == Mark::End as u32 => {}
            _ => {
                self.write(format_args!("done"));
                let _ = self.out.flush();
            }
        }
    }

    /// What cannot be written is missed by the reader.
    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(bytes: &[u8]) -> Vec<Kind> {
        Kind::of(bytes).collect()
    }

    #[test]
    fn instructions_count_as_what_they_are() {
        use Kind::{Cr3Load, Instruction, Locked, PkrsWrite};
        assert_eq!(kinds(&[0x90]), [Instruction]);
        assert_eq!(kinds(&[0x0f, 0x30]), [Instruction, PkrsWrite]);
        assert_eq!(kinds(&[0x48, 0x0f, 0x30]), [Instruction, PkrsWrite]);
        assert_eq!(kinds(&[0x0f, 0x01, 0xef]), [Instruction, PkrsWrite]);
        assert_eq!(kinds(&[0x0f, 0x22, 0xd8]), [Instruction, Cr3Load]);
        assert_eq!(kinds(&[0x0f, 0x22, 0xe0]), [Instruction], "CR4");
        assert_eq!(kinds(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f]), [Instruction, Locked], "LOCK CMPXCHG");
        assert_eq!(kinds(&[0x48, 0x87, 0x03]), [Instruction, Locked], "XCHG with memory");
        assert_eq!(kinds(&[0x48, 0x87, 0xc3]), [Instruction], "XCHG of registers");
    }
}
