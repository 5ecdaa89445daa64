//! A race: CPU 0 takes something away, CPU 1 stands still at an instruction of its way.
//!
//! The guest's scenarios (`servers/ipc_test/src/scenarios/races.rs`) come by three lines: before CPU 0 takes something
//! away, when the kernel has said that it is gone, and when CPU 1 has been seen to fail. CPU 0 stands at the first while
//! CPU 1 is put where it is wanted. Whether CPU 0 may then come to the second alone follows from two words of the
//! kernel's (kernel/src/lock.rs): CPU 1 is not inside: it must be waited for; it is inside and has the lock: CPU 0
//! waits for that; it is inside and waits: CPU 0 goes on without it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, KERNEL_BASE};
use libpks::pkey::{Pkey, Pkrs, Rights};
use tests::gdbstub::function;
use tests::guest::{Guest, PATIENT, SOON};
use tests::plan::Running;

/// The side that takes away.
pub(crate) const OWNER: usize = 0;
/// The side that is taken from.
pub(crate) const OTHER: usize = 1;
/// How long the owner is watched where it must not go on. A kernel that does not wait is through in microseconds; a
/// slow host can hide that at one instruction, never make a right kernel fail.
pub(crate) const WATCHED: Duration = Duration::from_millis(8);
/// How long the other side may take to a position. It is there in microseconds, or not on its way this time; the
/// guest's own patience (25 s) must not run out meanwhile.
pub(crate) const ARRIVES: Duration = Duration::from_millis(500);
/// What a step may take. The CPU is halted if it takes longer.
pub(crate) const STEP: Duration = Duration::from_millis(500);
/// Instructions of the other side's way at most.
pub(crate) const LONGEST_ROUND: usize = 12_000;
/// CELL, in the CPU window (kernel/src/arch/window.rs).
pub(crate) const CELL: u64 = 0xffff_ffff_c000_0008;
/// Where the stub of a vector leaves its number for level 6, and where the CPU leaves RIP (docs/traps.md).
pub(crate) const VECTOR_SLOT: u64 = 0xffff_ffff_c000_3c00 - 96;
const RIP_SLOT: u64 = 0xffff_ffff_c000_3c00 - 40;
/// The vector by which a CPU is asked in (kernel/src/arch/apic.rs).
pub(crate) const KICK: u64 = 0x21;
/// RDI among the registers.
pub(crate) const FIRST_ARGUMENT: usize = 5;
/// The server whose scenarios these are.
const SERVER: &str = "ipc_test";

/// What the kernel's books say of the other side while it stands still and the owner is in its domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Where {
    /// It runs a domain, or is on its way in or out.
    Outside,
    /// It waits for the kernel's lock.
    Waiting,
    /// It has the lock.
    Inside,
}

/// A race that is run again and again.
pub(crate) struct Track {
    pub(crate) guest: Guest,
    /// The image of the server, and where it is.
    image: (PathBuf, u64),
    pub(crate) lines: [u64; 3],
    /// The kernel's [`libpks::smp::Presence`]: a byte for the lock, then one for each CPU.
    presence: u64,
    waits: u64,
}

/// An instruction of the other side's way, and where it is then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) rip: u64,
    pub(crate) place: Where,
}

/// Which race, and what is demanded of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Race {
    /// The guest's scenario.
    pub(crate) scenario: &'static str,
    /// Whether the owner has to wait for a CPU that is not inside.
    pub(crate) must_wait: bool,
    /// Whether a CPU that waits for the lock need not be waited for: it keeps a list of what it must forget, and where
    /// that gets full it must have emptied it.
    pub(crate) passes_waiting: bool,
    /// How many instructions inside of the lock are tried: each `1 / sparse` of them.
    pub(crate) sparse: usize,
    /// Of those outside, each `1 / thin`.
    pub(crate) thin: usize,
    /// Whether the other side must not use the region any more afterwards.
    pub(crate) taken: bool,
    /// Keys that may be open for the other side afterwards, its own and the open one among them.
    pub(crate) open_keys: u32,
}

impl Track {
    pub(crate) fn new(guest: Guest, running: &mut Running) -> Result<Self> {
        let domains = running.link.domains(PATIENT)?;
        let domain = domains.iter().find(|domain| domain.name == SERVER).context(SERVER)?;
        let base = domain.base + libpks::abi::layout::IMAGE_OFFSET;
        let system = guest.system();
        let servers = system.servers().iter().zip(system.symbols().iter().skip(1));
        let (_, file) = servers.into_iter().find(|(module, _)| module.name == SERVER).context(SERVER)?;
        let image = (file.clone(), base);
        let (presence, waits) = (guest.symbol("lock::PRESENCE")?, guest.symbol("await_cpu")?);
        let mut track = Self { guest, image, lines: [0; 3], presence, waits };
        track.lines = [
            track.line("races::starting_line")?,
            track.line("races::finish_line")?,
            track.line("races::over")?,
        ];
        Ok(track)
    }

    /// The address of a function of the server.
    pub(crate) fn line(&self, path: &str) -> Result<u64> {
        Ok(self.image.1 + function(&self.image.0, path)?)
    }

    /// Where the other side is.
    pub(crate) fn place(&mut self) -> Result<Where> {
        self.place_of(OTHER)
    }

    /// Where a CPU is, if it is the only one that may have the lock.
    pub(crate) fn place_of(&mut self, cpu: usize) -> Result<Where> {
        let [held, inside @ ..] = self.guest.gdb.read_word(self.presence)?.to_le_bytes();
        Ok(match (held, inside[cpu]) {
            (0, 0) => Where::Outside,
            (0, _) => Where::Waiting,
            _ => Where::Inside,
        })
    }

    pub(crate) fn rip_of(&mut self, cpu: usize) -> Result<u64> {
        self.guest.gdb.select(cpu)?;
        self.guest.gdb.rip()
    }

    /// Runs everything until the owner comes to a line. Accesses of the other side to what is watched are errors.
    pub(crate) fn until_line(&mut self, line: usize) -> Result<bool> {
        let at = self.lines[line];
        self.guest.gdb.set_breakpoint(at)?;
        let arrived = loop {
            self.guest.gdb.resume()?;
            if !self.guest.gdb.stopped_within(SOON)? {
                self.guest.gdb.interrupt()?;
                break false;
            }
            let stop = self.guest.gdb.stop().context("no reason for a stop")?;
            match stop.watched {
                Some(address) if stop.cpu == OTHER => {
                    bail!("CPU {OTHER} has used {address:#x} after it was taken away")
                }
                Some(_) => {}
                None => break true,
            }
        };
        self.guest.gdb.clear_breakpoint(at)?;
        Ok(arrived)
    }

    /// The instructions of one round of the other side, from where it stands when the owner stands at the starting line.
    /// A round ends where it began, or where the CPU halts.
    pub(crate) fn round(&mut self) -> Result<Vec<Position>> {
        ensure!(self.until_line(0)?, "the owner does not come to the starting line");
        // First to where it is outside, at the end of a way out.
        let exit = self.guest.symbol("exit::trap_exit")?;
        ensure!(self.run_to(OTHER, exit, SOON)?, "CPU {OTHER} does not leave the kernel");
        let mut way = Vec::new();
        let first = self.rip_of(OTHER)?;
        for _ in 0..LONGEST_ROUND {
            let (rip, place) = (self.rip_of(OTHER)?, self.place()?);
            if rip == first && !way.is_empty() {
                return Ok(way);
            }
            way.push(Position { rip, place });
            if !self.guest.gdb.step_only(OTHER, STEP)? {
                return Ok(way);
            }
        }
        bail!("a round of CPU {OTHER} does not end")
    }

    /// Runs a CPU alone to an instruction; whether it came there in time.
    pub(crate) fn run_to(&mut self, cpu: usize, rip: u64, limit: Duration) -> Result<bool> {
        if self.rip_of(cpu)? == rip {
            return Ok(true);
        }
        self.guest.gdb.set_breakpoint(rip)?;
        self.guest.gdb.resume_only(cpu)?;
        let arrived = self.guest.gdb.stopped_within(limit)?;
        if !arrived {
            self.guest.gdb.interrupt()?;
        }
        self.guest.gdb.clear_breakpoint(rip)?;
        Ok(arrived)
    }

    /// The same, but no further than the owner's finish line: behind that there may be another way over the same
    /// instruction.
    pub(crate) fn owner_comes_to(&mut self, rip: u64, limit: Duration) -> Result<bool> {
        let finish = self.lines[1];
        self.guest.gdb.set_breakpoint(finish)?;
        let came = self.run_to(OWNER, rip, limit)?;
        if rip != finish {
            self.guest.gdb.clear_breakpoint(finish)?;
        }
        Ok(came && self.rip_of(OWNER)? == rip)
    }

    /// Lets the owner run alone until it is through; whether it was in time.
    pub(crate) fn owner_gets_through(&mut self, limit: Duration) -> Result<bool> {
        self.run_to(OWNER, self.lines[1], limit)
    }

    /// Lets the owner run alone until it waits for the other side, whose NMI is not sent yet.
    fn owner_comes_to_wait(&mut self) -> Result<()> {
        self.guest.gdb.set_breakpoint(self.waits)?;
        self.guest.gdb.set_breakpoint(self.lines[1])?;
        self.guest.gdb.resume_only(OWNER)?;
        let stopped = self.guest.gdb.stopped_within(SOON)?;
        if !stopped {
            self.guest.gdb.interrupt()?;
        }
        self.guest.gdb.clear_breakpoint(self.waits)?;
        self.guest.gdb.clear_breakpoint(self.lines[1])?;
        self.guest.gdb.select(OWNER)?;
        let rip = self.guest.gdb.rip()?;
        ensure!(rip == self.waits, "the owner is at {rip:#x} and not where it waits for CPU {OTHER}");
        self.kick_arrives()
    }

    /// Where the other side runs a domain, the owner's interrupt is the next thing that comes to it.
    fn kick_arrives(&mut self) -> Result<()> {
        let at = self.rip_of(OTHER)?;
        if at >= KERNEL_BASE {
            return Ok(());
        }
        let interrupts = self.guest.symbol("traps::level6")?;
        for stop in [interrupts, GATE_CALL, GATE_REPLY, GATE_SYSCALL] {
            self.guest.gdb.set_breakpoint(stop)?;
        }
        self.guest.gdb.resume_only(OTHER)?;
        let stopped = self.guest.gdb.stopped_within(SOON)?;
        if !stopped {
            self.guest.gdb.interrupt()?;
        }
        for stop in [interrupts, GATE_CALL, GATE_REPLY, GATE_SYSCALL] {
            self.guest.gdb.clear_breakpoint(stop)?;
        }
        let rip = self.rip_of(OTHER)?;
        let vector = self.guest.gdb.read_word(VECTOR_SLOT)? & 0xff;
        ensure!(
            rip == interrupts && vector == KICK,
            "CPU {OTHER} was not kicked: {rip:#x}, vector {vector:#x}"
        );
        let from = self.guest.gdb.read_word(RIP_SLOT)?;
        ensure!(from == at, "the kick for {at:#x} arrived at {from:#x}");
        Ok(())
    }

    /// One round with the other side at a position. `patient`: the owner waits until it sends an NMI. Gives where the
    /// other side was, `None` if it did not come there.
    pub(crate) fn run(&mut self, race: &Race, rip: u64, patient: bool) -> Result<Option<Where>> {
        ensure!(self.until_line(0)?, "the owner does not come to the starting line");
        self.guest.gdb.select(OWNER)?;
        let region = self.guest.gdb.general(FIRST_ARGUMENT)?;
        if !self.run_to(OTHER, rip, ARRIVES)? {
            // Nothing is left of the time that was lost: with many in one round, the guest's patience would run out.
            ensure!(self.until_line(2)?, "the round does not end");
            return Ok(None);
        }
        let place = self.place()?;
        match place {
            Where::Waiting if race.passes_waiting => {
                ensure!(self.owner_gets_through(SOON)?, "the owner waits for a CPU that is inside");
            }
            Where::Outside if race.must_wait && !patient => self.owner_comes_to_wait()?,
            Where::Waiting => drop(self.owner_gets_through(WATCHED)?),
            Where::Outside if !race.must_wait => drop(self.owner_gets_through(WATCHED)?),
            Where::Outside | Where::Inside => {
                ensure!(
                    !self.owner_gets_through(WATCHED)?,
                    "the owner is through while CPU {OTHER} stands still"
                );
            }
        }
        self.guest.gdb.select(OWNER)?;
        if self.guest.gdb.rip()? != self.lines[1] {
            ensure!(self.until_line(1)?, "the owner does not get through when CPU {OTHER} goes on");
        }
        self.see_it_fail(race, region)?;
        Ok(Some(place))
    }

    /// The other side neither has rights left nor uses the region any more; then the round ends.
    fn see_it_fail(&mut self, race: &Race, region: u64) -> Result<()> {
        // Whoever waits for the lock comes out of the kernel with what the owner has left to it; so does one that has given
        // the lock back and only counts as inside still.
        if race.passes_waiting && self.place()? == Where::Waiting {
            let exit = self.guest.symbol("exit::trap_exit")?;
            ensure!(self.run_to(OTHER, exit, SOON)?, "CPU {OTHER} does not leave the kernel");
        }
        // On its way out it has its next word already, with the lock it will get one.
        if self.place()? == Where::Outside {
            self.guest.gdb.select(OTHER)?;
            let word = Pkrs::from_raw(u32::try_from(self.guest.gdb.read_word(CELL)?)?);
            let open =
                (0..16).filter_map(Pkey::new).filter(|&key| word.rights(key) > Rights::NoAccess).count();
            ensure!(open <= race.open_keys as usize, "CPU {OTHER} runs under {word:?}");
        }
        let watched: &[u64] = if race.taken { &[region, region + 8] } else { &[] };
        watched.iter().try_for_each(|&at| self.guest.gdb.set_watchpoint(at))?;
        ensure!(self.until_line(2)?, "the round does not end");
        watched.iter().try_for_each(|&at| self.guest.gdb.clear_watchpoint(at))
    }
}
