//! A guest that stands at a gate while two of its threads run with rights of their own: where every way begins.

use std::ops::Range;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use iced_x86::Mnemonic;
use libpks::abi::layout::GATE_SYSCALL;
use libpks::abi::selftest::SelfTestOp;
use libpks::abi::{Syscall, name};
use libpks::pkey::{Pkey, Pkrs, Rights};
use libpks::proto::pks_test::{Outcome, Verdict};
use libpks::proto::testlink::{Reply, Request};
use tests::console::Console;
use tests::gdbstub::Registers;
use tests::guest::{Guest, SOON, boot_with_snapshots};
use tests::plan::{End as MachineEnd, Process, Running};

use crate::entry_text::EntryText;
use crate::retry::Elsewhere;

/// What the scenario may take, the guest being stopped and put back all the time.
const LONG: Duration = Duration::from_secs(7200);
/// The CPU window (docs/traps.md): CELL, DEPTH, the slots.
pub(crate) const CELL: u64 = 0xffff_ffff_c000_0008;
const DEPTH: u64 = 0xffff_ffff_c000_1000;
pub(crate) const SLOTS: u64 = 0xffff_ffff_c000_3000;
const IA32_PKRS: u64 = 0x6e1;
/// Where the kernel's tables of objects are (`KERNEL_TABLES`), how far apart, how many, and how much of each is looked at,
/// in parts.
const TABLES: u64 = 0xffff_f000_0000_0000;
const TABLE_BYTES: u64 = 1 << 34;
const TABLE_COUNT: u64 = 20;
const LOOKED_AT: u64 = 64 << 10;
const PART: usize = 1024;
/// How often others may come to an instruction before a thread does.
const OTHERS: usize = 2000;
/// Longer than a time slice.
const TIMER: Duration = Duration::from_millis(30);
const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
/// Numbers of registers.
pub(crate) const RAX: usize = 0;
pub(crate) const RCX: usize = 2;
pub(crate) const RDX: usize = 3;
pub(crate) const RSI: usize = 4;
pub(crate) const RBP: usize = 6;
pub(crate) const R15: usize = 15;
/// IF.
pub(crate) const INTERRUPTS: u32 = 0x200;

/// Where RIP lies in the frame of a slot.
pub(crate) const fn frame_rip(slot: u64) -> u64 {
    SLOTS + slot * 0x200 - 40
}

/// What an event must leave as it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    registers: Registers,
    pub(crate) pkrs: u32,
    depth: u32,
    /// The word of the thread that waits.
    other: Vec<u64>,
}

impl Seen {
    pub(crate) fn rip(&self) -> u64 {
        self.registers.rip()
    }

    fn is_same_as(&self, other: &Self) -> bool {
        self.registers.interrupted() == other.registers.interrupted()
            && (self.pkrs, self.depth) == (other.pkrs, other.depth)
            && self.other == other.other
    }

    /// The same of a thread that others may have run beside: they have words of their own to change, and faults to make.
    fn is_same_thread_as(&self, other: &Self) -> bool {
        self.registers.of_thread() == other.registers.of_thread()
            && (self.pkrs, self.depth) == (other.pkrs, other.depth)
    }
}

/// A thread at the gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Player {
    pub(crate) rsp: u64,
    pub(crate) word: Pkrs,
}

/// How a way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Back in what runs, a domain or the kernel.
    Left,
    /// The machine stops.
    Stopped,
}

pub(crate) struct Stand {
    pub(crate) guest: Guest,
    pub(crate) console: Console,
    pub(crate) text: EntryText,
    /// The thread that stands at the gate, and the other one.
    pub(crate) players: [Player; 2],
    pub(crate) nmi: u64,
    /// Where QEMU would be told that the kernel stops.
    pub(crate) exit_port: u64,
    rdmsr: u64,
    /// Where the kernel keeps the word of the thread that waits.
    words_of_other: Vec<u64>,
    /// Where the kernel's word is in force while DEPTH is 0, and is to be kept by an NMI.
    kernel_word: Vec<Range<u64>>,
    process: Box<dyn Process>,
    worker: JoinHandle<Result<Outcome>>,
}

impl Stand {
    /// Boots, and stops where a thread with an open guard asks for its word, another one having other rights. The
    /// machine is saved there as `home`.
    pub(crate) fn new() -> Result<Self> {
        let (guest, Running { mut link, console, process }) = boot_with_snapshots(1)?;
        let text = EntryText::of(&guest)?;
        let worker = thread::spawn(move || {
            let reply = link.ask(&Request::Run { name: name("S4_context_switch") }, LONG)?;
            match reply {
                Reply::Outcome(outcome) => Ok(outcome),
                other => bail!("not an outcome: {other:?}"),
            }
        });
        let nobody = Player { rsp: 0, word: Pkrs::CLOSED };
        let mut stand = Self {
            nmi: guest.symbol("nmi::nmi_entry")?,
            exit_port: guest.symbol("power::debug_exit")?,
            words_of_other: Vec::new(),
            kernel_word: Vec::new(),
            rdmsr: text.first(Mnemonic::Rdmsr)?,
            players: [nobody; 2],
            guest,
            console,
            text,
            process,
            worker,
        };
        stand.guest.gdb.interrupt()?;
        stand.silence_pit()?;
        stand.read_kernel_word_ranges()?;
        stand.find_players()?;
        stand.find_words_of_other()?;
        Ok(stand)
    }

    /// No NMIs but ours: the PIT, which sends them, counts once to the end and no more.
    fn silence_pit(&mut self) -> Result<()> {
        for (port, value) in [(0x43, 0x30), (0x40, 1), (0x40, 0)] {
            self.guest.gdb.monitor(&format!("o /b {port:#x} {value:#x}"))?;
        }
        Ok(())
    }

    fn read_kernel_word_ranges(&mut self) -> Result<()> {
        let from = self.guest.linker_symbol("__kernel_word_ranges")?;
        let to = self.guest.linker_symbol("__kernel_word_ranges_end")?;
        for at in (from..to).step_by(16) {
            let range = self.guest.gdb.read_word(at)?..self.guest.gdb.read_word(at + 8)?;
            self.kernel_word.push(range);
        }
        Ok(())
    }

    fn find_players(&mut self) -> Result<()> {
        for _ in 0..50 {
            let first = self.next_player()?;
            self.guest.gdb.save("home")?;
            for _ in 0..3 {
                self.guest.gdb.step()?;
                let second = self.next_player()?;
                if second.rsp != first.rsp && second.word != first.word {
                    self.players = [first, second];
                    return self.home();
                }
            }
        }
        bail!("no two threads with words of their own")
    }

    /// Looks through the kernel's tables for the word of the thread that waits; nobody else has that one.
    fn find_words_of_other(&mut self) -> Result<()> {
        let word = self.players[1].word.raw().to_le_bytes();
        for table in (0..TABLE_COUNT).map(|n| TABLES + n * TABLE_BYTES) {
            for at in (table..table + LOOKED_AT).step_by(PART) {
                // Behind the end of a table nothing is mapped.
                let Ok(bytes) = self.guest.gdb.read(at, PART) else { break };
                let found = bytes.chunks_exact(word.len()).zip((at..).step_by(word.len()));
                self.words_of_other.extend(found.filter(|(here, _)| *here == word).map(|(_, at)| at));
            }
        }
        ensure!(!self.words_of_other.is_empty(), "no thread has {:x?}", self.players[1].word);
        Ok(())
    }

    /// Goes on until a thread that has opened something asks for its word.
    fn next_player(&mut self) -> Result<Player> {
        for _ in 0..OTHERS {
            ensure!(self.guest.gdb.go_to(&[GATE_SYSCALL], SOON)?, "no system calls any more");
            let registers = self.guest.gdb.all_registers()?;
            let word = Pkrs::from_raw(self.guest.gdb.read_word(CELL)? as u32);
            let open =
                (0..16).filter_map(Pkey::new).filter(|&key| word.rights(key) != Rights::NoAccess).count();
            let asks = registers.general(R15) == Syscall::SelfTest as u64
                && registers.general(RSI) == SelfTestOp::ReadPkrs as u64;
            if asks && open > 2 {
                return Ok(Player { rsp: registers.rsp(), word });
            }
            self.guest.gdb.step()?;
        }
        bail!("no thread asks for its word")
    }

    /// Back to where the ways begin.
    pub(crate) fn home(&mut self) -> Result<()> {
        self.guest.gdb.load("home")
    }

    /// PKRS of the CPU.
    pub(crate) fn pkrs(&mut self) -> Result<u32> {
        self.msr(IA32_PKRS).map(|value| value as u32)
    }

    /// A model-specific register, by a RDMSR that leaves no trace.
    pub(crate) fn msr(&mut self, number: u64) -> Result<u64> {
        let gdb = &mut self.guest.gdb;
        let before = gdb.all_registers()?;
        gdb.set_all_registers(&before.with(RCX, number).with(Registers::RIP, self.rdmsr))?;
        gdb.step()?;
        let read = gdb.all_registers()?;
        // With its prefix.
        ensure!(read.rip() == self.rdmsr + 3, "no RDMSR: {:#x}", read.rip());
        gdb.set_all_registers(&before)?;
        Ok(read.general(RDX) << 32 | read.general(RAX) & 0xffff_ffff)
    }

    pub(crate) fn depth(&mut self) -> Result<u32> {
        self.guest.gdb.read_word(DEPTH).map(|word| word as u32)
    }

    /// Where the kernel keeps the word of the thread that waits; at least one place.
    pub(crate) fn addresses_of_other(&self) -> &[u64] {
        &self.words_of_other
    }

    /// What the kernel has in the places where it keeps the word of the thread that waits.
    pub(crate) fn word_of_other(&mut self) -> Result<Vec<u64>> {
        self.words_of_other.iter().map(|at| self.guest.gdb.read_word(*at)).collect()
    }

    /// What there is before an event, or after it.
    pub(crate) fn seen(&mut self) -> Result<Seen> {
        let (pkrs, depth) = (self.pkrs()?, self.depth()?);
        let other = self.word_of_other()?;
        Ok(Seen { registers: self.guest.gdb.all_registers()?, pkrs, depth, other })
    }

    /// What there must be after an event that comes now: the same. Only where a failed check goes, before it takes the
    /// kernel's word anew, an NMI gives a domain's word instead.
    pub(crate) fn expected_after(&mut self) -> Result<Seen> {
        let mut seen = self.seen()?;
        let keeps = self.kernel_word.iter().any(|range| range.contains(&seen.rip()));
        if seen.depth == 0 && !keeps && seen.pkrs == Pkrs::KERNEL.raw() {
            seen.pkrs = self.guest.gdb.read_word(CELL)? as u32;
        }
        Ok(seen)
    }

    /// After an interrupt, whose handler gives the CPU to whom it likes: when it leaves the kernel, nobody having run yet,
    /// the word of the thread that waits is what it was. Later the thread comes to the same instruction again, with the
    /// same registers, the same word, the same DEPTH.
    pub(crate) fn must_come_back(&mut self, before: &Seen, ways_out: &[u64]) -> Result<()> {
        ensure!(self.guest.gdb.go_to(ways_out, SOON)?, "the kernel is not left");
        let other = self.word_of_other()?;
        ensure!(other == before.other, "the other thread has {other:x?} instead of {:x?}", before.other);
        self.thread_comes_to(before.rip(), before.registers.rsp())?;
        let after = self.seen()?;
        ensure!(before.is_same_thread_as(&after), "before: {before:x?}\nafter:  {after:x?}");
        Ok(())
    }

    /// Goes on until the thread with this stack comes to an instruction. Others may come there first.
    pub(crate) fn thread_comes_to(&mut self, at: u64, rsp: u64) -> Result<()> {
        for _ in 0..OTHERS {
            self.come_to(at)?;
            if self.guest.gdb.rsp()? == rsp {
                return Ok(());
            }
            self.guest.gdb.step()?;
        }
        bail!("the thread does not come to {at:#x}")
    }

    /// The same of an event whose handler ends by this IRETQ, before anything else can come.
    pub(crate) fn must_be_back_by(&mut self, iretq: u64, before: &Seen) -> Result<()> {
        self.come_to(iretq)?;
        self.guest.gdb.step()?;
        self.must_be(before)
    }

    fn must_be(&mut self, before: &Seen) -> Result<()> {
        let after = self.seen()?;
        ensure!(before.is_same_as(&after), "before: {before:x?}\nafter:  {after:x?}");
        Ok(())
    }

    /// Sends an event with a command of QEMU's, and goes to its stub: it must have arrived at this instruction.
    pub(crate) fn strike(&mut self, command: &str, stub: u64, slot: u64) -> Result<()> {
        let at = self.guest.gdb.rip()?;
        if self.guest.gdb.all_registers()?.flags() & INTERRUPTS == 0 {
            // If the timer is due QEMU looks at that first, and executes a block before it looks for more.
            self.come_to(at)?;
        }
        self.guest.gdb.monitor(command)?;
        self.come_to(stub)?;
        let hit = self.guest.gdb.read_word(frame_rip(slot))?;
        ensure!(hit == at, Elsewhere(format!("`{command}` for {at:#x} arrived at {hit:#x}")));
        Ok(())
    }

    /// With interrupts off: stands still until a timer that is about to expire has done so. If it does while the CPU is
    /// given something else, QEMU has that wait for a block of instructions.
    pub(crate) fn let_timer_expire(&mut self) -> Result<()> {
        if self.guest.gdb.all_registers()?.flags() & INTERRUPTS != 0 {
            return Ok(());
        }
        let gdb = &mut self.guest.gdb;
        let rip = gdb.rip()?;
        let there = gdb.read(rip, JUMP_TO_ITSELF.len())?;
        gdb.write(rip, &JUMP_TO_ITSELF)?;
        gdb.resume()?;
        thread::sleep(TIMER);
        gdb.interrupt()?;
        gdb.write(rip, &there)
    }

    /// Goes on to an instruction; if this is it, no further.
    pub(crate) fn come_to(&mut self, at: u64) -> Result<()> {
        let exit = self.exit_port;
        ensure!(self.guest.gdb.go_to(&[at, exit], SOON)?, "the guest does not come to {at:#x}");
        let rip = self.guest.gdb.rip()?;
        ensure!(rip == at, "the guest stops at {rip:#x} on its way to {at:#x}");
        Ok(())
    }

    /// Puts an instruction at RIP, executes it, and puts back what was there.
    pub(crate) fn execute(&mut self, instruction: &[u8]) -> Result<()> {
        let gdb = &mut self.guest.gdb;
        let rip = gdb.rip()?;
        let there = gdb.read(rip, instruction.len())?;
        gdb.write(rip, instruction)?;
        gdb.step()?;
        gdb.write(rip, &there)
    }

    /// Has the thread at the gate execute an instruction of its own text instead.
    pub(crate) fn execute_in_domain(&mut self, instruction: &[u8]) -> Result<()> {
        let stack = self.guest.gdb.rsp()?;
        let back = self.guest.gdb.read_word(stack)?;
        self.guest.gdb.set_rip(back)?;
        self.execute(instruction)
    }

    /// Follows the entry code from here to its end, calling at each instruction; what it calls runs by itself. Gives how
    /// it ends.
    pub(crate) fn walk(&mut self, each_fn: &mut dyn FnMut(&mut Self, u64) -> Result<()>) -> Result<End> {
        let mut last = None;
        for _ in 0..1000 {
            let rip = self.guest.gdb.rip()?;
            if let Some(mnemonic) = self.text.at(rip) {
                each_fn(self, rip).with_context(|| format!("at {rip:#x}"))?;
                let now = self.guest.gdb.rip()?;
                ensure!(now == rip, "left {rip:#x} for {now:#x}");
                self.guest.gdb.step()?;
                last = Some(mnemonic);
            } else if last == Some(Mnemonic::Call) {
                let stack = self.guest.gdb.rsp()?;
                let back = self.guest.gdb.read_word(stack)?;
                if !self.guest.gdb.go_to(&[back, self.exit_port], SOON)? {
                    bail!("what was called from before {back:#x} does not end");
                }
                if self.guest.gdb.rip()? == self.exit_port {
                    return Ok(End::Stopped);
                }
                last = None;
            } else {
                return Ok(End::Left);
            }
        }
        bail!("a way without an end")
    }

    /// The other thread comes to the gate with its own word.
    pub(crate) fn other_is_untouched(&mut self) -> Result<()> {
        let other = self.players[1];
        for _ in 0..50 {
            if self.next_player()?.rsp == other.rsp {
                // At the gate the word of the domain is in force.
                let word = self.pkrs()?;
                ensure!(word == other.word.raw(), "the other thread has {word:#x} instead of {}", other.word);
                return Ok(());
            }
            self.guest.gdb.step()?;
        }
        bail!("the other thread does not come")
    }

    /// Waits for the machine's end.
    pub(crate) fn end(&mut self, limit: Duration) -> Result<MachineEnd> {
        self.process.wait(limit).context("the machine goes on")
    }

    /// Lets the scenario go on from `home`: it must pass, with all the events behind it.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.home()?;
        self.guest.gdb.resume()?;
        let outcome = self.worker.join().map_err(|_| anyhow!("the worker panicked"))??;
        ensure!(outcome.verdict == Verdict::Pass, "{outcome:?}");
        Ok(())
    }
}
