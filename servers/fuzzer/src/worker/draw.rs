//! Draws calls: mostly such as a server could make, with something wrong in many of them.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use libpks::abi::Syscall;
use libpks::abi::layout::{
    GATE_CALL, IPC_BUFFER_BYTES, KERNEL_BASE, PAGE, REGIONS_BASE, SLOTS_BASE, STACK_MAX_BYTES,
};
use libpks::cap::ObjectKind;

use super::arguments::{Argument, Gives, OPERATIONS, gives, words};
use super::call::{Entry, Registers, server_entry, thread_entry};

/// Handles that are remembered of each kind.
const PER_KIND: usize = 8;
/// Codes of kinds are below this.
const KINDS: usize = 16;
/// Flags that every thread has: bit 1 is always set; interrupts.
const FLAGS: u64 = 0x202;
/// Arithmetic flags and DF (Intel SDM vol. 1, 3.4.3).
const HARMLESS: u64 = 0x0cd5;
const TRAP: u64 = 1 << 8;
const INTERRUPTS: u64 = 1 << 9;
const PRIVILEGE: u64 = 3 << 12;
const NESTED_TASK: u64 = 1 << 14;
const ALIGNMENT: u64 = 1 << 18;
const IDENTIFICATION: u64 = 1 << 21;
/// The longest that a call is let wait, mostly.
const WAIT_NS: u64 = 500_000;

/// What all threads of a worker know: handles by kind, and tokens of openings. They race for them.
pub(crate) struct Known {
    handles: [[AtomicU64; PER_KIND]; KINDS],
    tokens: [AtomicU64; PER_KIND],
}

impl Known {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self {
            handles: [const { [const { AtomicU64::new(0) }; PER_KIND] }; KINDS],
            tokens: [const { AtomicU64::new(0) }; PER_KIND],
        }
    }

    /// Remembers a handle, at a place where another one may have been.
    pub(crate) fn learn(&self, kind: ObjectKind, handle: u64, random: &mut Rng) {
        if let Some(place) = self.handles.get(usize::from(kind.code())).and_then(|kind| random.choice(kind)) {
            place.store(handle, Ordering::Relaxed);
        }
    }

    fn handle(&self, kind: u8, random: &mut Rng) -> u64 {
        let place = self.handles.get(usize::from(kind)).and_then(|kind| random.choice(kind));
        place.map_or(0, |place| place.load(Ordering::Relaxed))
    }
}

/// A call that is to be made.
pub(crate) struct Call {
    pub(crate) entry: Entry,
    pub(crate) registers: Registers,
    pub(crate) flags: u64,
    /// Whether it is made with a stack pointer into other memory.
    pub(crate) elsewhere: bool,
    /// Bytes for the IPC buffer.
    pub(crate) buffer: Bytes,
    /// The kind of handle that the first word named.
    kind: u8,
}

/// Up to this many bytes are drawn for the IPC buffer; behind them it keeps what was there.
const MOST: usize = 256;

/// Bytes without a heap.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    bytes: [u8; MOST],
    length: usize,
}

impl Bytes {
    /// The bytes.
    pub(crate) fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Draws calls for one thread.
pub(crate) struct Draw<'a> {
    pub(crate) random: Rng,
    pub(crate) known: &'a Known,
    /// The priority of the domain.
    pub(crate) priority: u8,
    /// Nanoseconds since boot, as far as this thread knows.
    pub(crate) now: u64,
}

impl Draw<'_> {
    /// The next call.
    pub(crate) fn call(&mut self) -> Call {
        let entry = match self.random.u8(..) {
            0..=39 => Entry::Call,
            40..=51 => Entry::Reply,
            52..=61 => Entry::Interrupt(self.vector()),
            _ => Entry::Operation,
        };
        let mut call = Call {
            entry,
            registers: self.registers(),
            flags: self.flags(),
            elsewhere: self.random.u8(0..8) == 0,
            buffer: self.buffer(),
            kind: 0,
        };
        match entry {
            Entry::Call => self.message(&mut call, Some(ObjectKind::Endpoint)),
            Entry::Reply => self.message(&mut call, None),
            Entry::Operation => self.operation(&mut call),
            Entry::Interrupt(_) => {}
        }
        call.registers.rbx = self.deadline();
        call
    }

    /// What came back may be named by later calls.
    pub(crate) fn learn(&mut self, call: &Call, operation: u64, came: &Registers) {
        let [first, _] = came.first_words();
        match (call.entry, Syscall::from_number(operation)) {
            (Entry::Operation, Some(Syscall::Clock)) => self.now = first,
            (Entry::Operation, Some(operation)) => match gives(operation) {
                Gives::Nothing => {}
                Gives::Handle(kind) => self.known.learn(kind, first, &mut self.random),
                Gives::SameKind => {
                    if let Some(kind) = ObjectKind::from_code(call.kind) {
                        self.known.learn(kind, first, &mut self.random);
                    }
                }
                Gives::Token => {
                    if let Some(place) = self.random.choice(&self.known.tokens) {
                        place.store(first, Ordering::Relaxed);
                    }
                }
            },
            _ => {}
        }
    }

    fn operation(&mut self, call: &mut Call) {
        let operation = match self.random.u16(0..400) {
            0 => Syscall::Exit as u64,
            1 => Syscall::Abort as u64,
            2..10 => self.random.u64(..),
            10..20 => self.random.u64(0..100),
            _ => self.random.choice(OPERATIONS).map_or(0, |operation| *operation as u64),
        };
        let mut drawn = [0; 8];
        drawn.iter_mut().for_each(|word| *word = self.anything());
        let meant = Syscall::from_number(operation).map_or(&[][..], words);
        for (word, argument) in drawn.iter_mut().zip(meant) {
            *word = self.argument(*argument, call);
        }
        call.registers.set_words(drawn);
        call.registers.r15 = operation;
        call.registers.r11 = self.info(false);
    }

    /// A message, to this kind of object or as a reply.
    fn message(&mut self, call: &mut Call, kind: Option<ObjectKind>) {
        let mut drawn = [0; 8];
        drawn.iter_mut().for_each(|word| *word = self.anything());
        // The last words may be handles.
        for word in drawn.iter_mut().skip(4) {
            *word = self.argument(Argument::AnyHandle, call);
        }
        call.registers.set_words(drawn);
        if let Some(kind) = kind {
            call.registers.r15 = self.argument(Argument::Handle(kind), call);
        }
        call.registers.r11 = self.info(true);
    }

    fn argument(&mut self, argument: Argument, call: &mut Call) -> u64 {
        if self.random.u8(0..12) == 0 {
            return self.anything();
        }
        match argument {
            Argument::Handle(kind) => self.handle(kind.code(), call),
            Argument::AnyHandle => {
                let kind = self.random.u8(0..KINDS as u8);
                self.handle(kind, call)
            }
            Argument::Rights => match self.random.u8(0..4) {
                0 => self.random.u64(0..0x100),
                1 => self.random.u64(0..0x20000),
                _ => 0xff & !(1 << self.random.u32(0..12)),
            },
            Argument::Bytes => self.bytes(),
            Argument::Entry => self.entry(thread_entry()),
            Argument::ServerEntry => self.entry(server_entry()),
            Argument::Small => match self.random.u8(0..8) {
                0 => self.random.u64(..),
                1 => self.random.u64(0..300),
                2 => u64::from(self.priority),
                _ => self.random.u64(0..5),
            },
            Argument::Bits => 1 << self.random.u32(0..64),
            Argument::Access => self.random.u64(0..4),
            Argument::Token => {
                let place = self.random.choice(&self.known.tokens);
                place.map_or(0, |place| place.load(Ordering::Relaxed))
            }
            Argument::Any => self.anything(),
        }
    }

    /// A handle of a kind that is held, perhaps with one bit changed.
    fn handle(&mut self, kind: u8, call: &mut Call) -> u64 {
        let kind = if self.random.u8(0..10) == 0 { self.random.u8(0..KINDS as u8) } else { kind };
        call.kind = kind;
        let handle = self.known.handle(kind, &mut self.random);
        match self.random.u8(0..24) {
            0 => handle ^ 1 << self.random.u32(0..64),
            1 => handle.wrapping_add(self.random.u64(0..3)).wrapping_sub(1),
            _ => handle,
        }
    }

    fn bytes(&mut self) -> u64 {
        match self.random.u8(0..8) {
            0 => self.anything(),
            1 => 0,
            2 => STACK_MAX_BYTES.wrapping_add(self.random.u64(0..3)).wrapping_sub(1),
            3 => u64::MAX - self.random.u64(0..2 * PAGE),
            _ => self.random.u64(1..9 * PAGE),
        }
    }

    fn entry(&mut self, honest: u64) -> u64 {
        match self.random.u8(0..24) {
            0 => self.anything(),
            1 => honest.wrapping_add(self.random.u64(0..64)),
            _ => honest,
        }
    }

    /// Bytes and capabilities of a message.
    fn info(&mut self, carries: bool) -> u64 {
        if self.random.u8(0..16) == 0 {
            return self.anything();
        }
        let bytes = match self.random.u8(0..4) {
            0 => self.random.u64(0..IPC_BUFFER_BYTES as u64 + 2),
            1 => self.random.u64(0..32),
            _ => 0,
        };
        let count = if carries && self.random.bool() { self.random.u64(0..5) } else { 0 };
        let modes = self.random.u64(..) >> 52 & ((1 << (3 * count)) - 1);
        // Without the fourth mode, which there is not, in most.
        let modes = if self.random.u8(0..8) == 0 { modes } else { modes & !(modes << 1 & 0o2222) };
        bytes | count << 16 | modes << 20
    }

    fn deadline(&mut self) -> u64 {
        match self.random.u8(0..64) {
            0 => 0,
            1 => self.random.u64(..),
            2 => u64::MAX - self.random.u64(0..4),
            3 => 1,
            _ => self.now.wrapping_add(self.random.u64(0..WAIT_NS)),
        }
    }

    /// Numbers at which checks have their edges, addresses of others, and noise.
    fn anything(&mut self) -> u64 {
        let near = self.random.u64(0..3).wrapping_sub(1);
        match self.random.u8(0..12) {
            0 => 0,
            1 => u64::MAX.wrapping_add(near),
            2 => (1 << self.random.u32(0..64)) + near % 2,
            3 => u64::from(u32::MAX).wrapping_add(near),
            4 => i64::MAX as u64 + near % 2,
            5 => PAGE.wrapping_add(near),
            6 => KERNEL_BASE.wrapping_add(self.random.u64(0..1 << 20)),
            7 => SLOTS_BASE.wrapping_add(self.random.u64(0..1 << 34)),
            8 => REGIONS_BASE.wrapping_add(self.random.u64(0..1 << 20)),
            9 => self.random.u64(0..256),
            10 => GATE_CALL + self.random.u64(0..0x180),
            _ => self.random.u64(..),
        }
    }

    /// Interrupts mostly; an exception ends a domain, so there are few.
    fn vector(&mut self) -> u8 {
        if self.random.u8(0..24) == 0 { self.random.u8(0..32) } else { self.random.u8(32..) }
    }

    fn flags(&mut self) -> u64 {
        let mut flags = FLAGS | (self.random.u64(..) & HARMLESS);
        for (flag, odds) in
            [(PRIVILEGE, 8), (NESTED_TASK, 8), (ALIGNMENT, 8), (IDENTIFICATION, 8), (TRAP, 800)]
        {
            if self.random.u16(0..odds) == 0 {
                flags |= flag;
            }
        }
        if self.random.u8(0..8) == 0 { flags & !INTERRUPTS } else { flags }
    }

    fn registers(&mut self) -> Registers {
        let mut registers = Registers::default();
        for register in [
            &mut registers.rax,
            &mut registers.rcx,
            &mut registers.rdx,
            &mut registers.rbp,
            &mut registers.r15,
            &mut registers.r11,
        ] {
            *register = self.anything();
        }
        registers.set_words([0; 8].map(|_: u64| self.anything()));
        registers
    }

    fn buffer(&mut self) -> Bytes {
        let mut drawn = Bytes { bytes: [0; MOST], length: 0 };
        if self.random.bool() {
            drawn.length = self.random.usize(0..MOST);
            let noise = self.random.u8(0..3);
            for byte in &mut drawn.bytes {
                *byte = match noise {
                    0 => self.random.u8(..),
                    1 => self.random.u8(0..16),
                    _ => self.random.u8(b' '..0x7f),
                };
            }
        }
        drawn
    }
}
