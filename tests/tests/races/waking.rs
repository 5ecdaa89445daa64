//! A signal meets a thread on its way to sleep. Whoever gets the kernel's lock first, the thread does not sleep on: it has
//! found the bits, or the very next thing that comes to its CPU is the kick.
//!
//! CPU 0 signals, CPU 1 goes to sleep (`servers/ipc_test/src/scenarios/wake.rs`). First CPU 1 stands at an instruction of
//! its way and CPU 0 goes all of its own; then the other way round.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libpks::abi::layout::slot_of;
use libpks::pkey::Pkrs;
use tests::guest::{SOON, boot, close};

use crate::drive::{choose, counts_if_missed, drive_by};
use crate::track::{
    ARRIVES, CELL, FIRST_ARGUMENT, KICK, LONGEST_ROUND, OTHER, OWNER, Position, STEP, Track, VECTOR_SLOT,
    WATCHED, Where,
};

/// Each of so many instructions without the lock is tried, and each of so many with it.
const THIN: usize = 3;
const SPARSE: usize = 60;
/// How often the way of a signal is recorded, if somebody else comes between.
const RECORDINGS: usize = 8;
/// Bytes of the idle loop's STI, HLT and jump.
const IDLE_BYTES: u64 = 4;

#[test]
fn a_signal_meets_whoever_goes_to_sleep() -> Result<()> {
    let (guest, mut running) = boot(2)?;
    let mut track = Track::new(guest, &mut running)?;
    let running = drive_by(&mut track, running, "race_wake", |track| {
        let mut bed = Bed::new(track)?;
        bed.signals_meet_a_sleeper()?;
        bed.sleepers_meet_a_signal()
    })?;
    close(running)
}

struct Bed<'a> {
    track: &'a mut Track,
    falls_asleep: u64,
    woken: u64,
    idle: u64,
    exit: u64,
}

impl<'a> Bed<'a> {
    fn new(track: &'a mut Track) -> Result<Self> {
        let (falls_asleep, woken) = (track.line("wake::falls_asleep")?, track.line("wake::woken")?);
        let (idle, exit) = (track.guest.symbol("first::idle_loop")?, track.guest.symbol("exit::trap_exit")?);
        Ok(Self { track, falls_asleep, woken, idle, exit })
    }

    /// The owner comes to its line; the sleeper may go, and stands where it was.
    fn begin(&mut self) -> Result<()> {
        ensure!(self.track.until_line(0)?, "the owner does not come to the starting line");
        let gdb = &mut self.track.guest.gdb;
        gdb.select(OWNER)?;
        let go = gdb.general(FIRST_ARGUMENT)?;
        let round = gdb.read_word(go)? + 1;
        gdb.write(go, &round.to_le_bytes())
    }

    /// The sleeper's next system call is its wait.
    fn sleeper_comes(&mut self) -> Result<()> {
        ensure!(self.track.run_to(OTHER, self.falls_asleep, SOON)?, "the sleeper does not come to its wait");
        Ok(())
    }

    /// The instructions of a CPU from where it stands to `end`, or until it idles. Guest time goes on while it is
    /// stepped through, so it may come to another domain, whose time has come; then the way ends there, and this gives
    /// false.
    fn way(&mut self, cpu: usize, end: u64) -> Result<(Vec<Position>, bool)> {
        let mut way = Vec::new();
        for _ in 0..LONGEST_ROUND {
            let rip = self.track.rip_of(cpu)?;
            if rip == end || rip == self.idle {
                return Ok((way, true));
            }
            if slot_of(rip).is_some_and(|slot| Some(slot) != slot_of(self.woken)) {
                return Ok((way, false));
            }
            way.push(Position { rip, place: self.track.place_of(cpu)? });
            if !self.track.guest.gdb.step_only(cpu, STEP)? {
                return Ok((way, true));
            }
        }
        bail!("the way of CPU {cpu} does not end")
    }

    /// The way of the sleeper, into the idle loop's STI and HLT.
    fn way_to_sleep(&mut self) -> Result<Vec<Position>> {
        self.begin()?;
        self.sleeper_comes()?;
        // Whoever else comes to the CPU has left the kernel by the same instructions as the idle loop would have.
        let (mut way, _) = self.way(OTHER, 0)?;
        self.end()?;
        way.extend([0, 1].map(|at| Position { rip: self.idle + at, place: Where::Outside }));
        Ok(way)
    }

    /// The way of the signal, to the line behind it.
    fn way_of_a_signal(&mut self) -> Result<Vec<Position>> {
        for _ in 0..RECORDINGS {
            self.begin()?;
            self.sleeper_comes()?;
            let (way, whole) = self.way(OWNER, self.track.lines[1])?;
            self.end()?;
            if whole {
                return Ok(way);
            }
        }
        bail!("somebody else ran on CPU {OWNER} each time")
    }

    /// Whether the sleeper's CPU has decided to idle: it leaves with the word of nobody.
    fn sleeps(&mut self) -> Result<bool> {
        self.track.guest.gdb.select(OTHER)?;
        let cell = self.track.guest.gdb.read_word(CELL)?;
        Ok(self.track.place()? == Where::Outside && cell == u64::from(Pkrs::DEFAULT.raw()))
    }

    /// The next thing that comes to the CPU that sleeps is the kick.
    fn is_kicked(&mut self) -> Result<()> {
        let interrupts = self.track.guest.symbol("traps::level6")?;
        ensure!(self.track.run_to(OTHER, interrupts, SOON)?, "nothing comes to CPU {OTHER}");
        let vector = self.track.guest.gdb.read_word(VECTOR_SLOT)? & 0xff;
        ensure!(vector == KICK, "the first thing that comes to CPU {OTHER} has vector {vector:#x}");
        Ok(())
    }

    /// The sleeper goes on without having slept.
    fn does_not_sleep(&mut self) -> Result<()> {
        let came = self.goes_on(SOON)?;
        let rip = self.track.rip_of(OTHER)?;
        ensure!(came && rip == self.woken, "the signal was there, and CPU {OTHER} is at {rip:#x}");
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        ensure!(self.track.until_line(2)?, "the round does not end");
        Ok(())
    }

    /// CPU 1 stands, CPU 0 signals.
    fn signals_meet_a_sleeper(&mut self) -> Result<()> {
        let way = self.way_to_sleep()?;
        let (mut awake, mut asleep, mut inside, mut left, mut missed) = (0, 0, 0, 0, Vec::new());
        for position in choose(&way, THIN, SPARSE) {
            self.begin()?;
            self.sleeper_comes()?;
            // It may lie on the way of an interrupt that does not come this time.
            if !self.track.run_to(OTHER, position.rip, ARRIVES)? {
                if counts_if_missed(position.place) {
                    missed.push(position.rip);
                }
                self.end()?;
                continue;
            }
            left += usize::from(self.sleeps()?);
            if self.track.place()? == Where::Inside {
                inside += 1;
                ensure!(!self.track.owner_gets_through(WATCHED)?, "two hold the lock, {position:x?}");
                ensure!(
                    self.track.run_to(OTHER, self.exit, SOON)?,
                    "CPU {OTHER} does not leave, {position:x?}"
                );
            }
            let sleeps = self.sleeps()?;
            ensure!(self.track.owner_gets_through(SOON)?, "the signal waits for CPU {OTHER}, {position:x?}");
            if sleeps {
                asleep += 1;
                self.is_kicked().with_context(|| format!("{position:x?}"))?;
            } else {
                awake += 1;
                self.does_not_sleep().with_context(|| format!("{position:x?}"))?;
            }
            self.end()?;
        }
        println!(
            "race_wake: {} instructions to sleep, {awake} awake, {asleep} asleep, {inside} inside",
            way.len()
        );
        ensure!(
            awake > 0 && asleep > left && left > 0 && inside > 0 && missed.len() * 10 < awake + asleep,
            "{} of them were not met: {missed:x?}",
            missed.len()
        );
        Ok(())
    }

    /// CPU 0 stands, CPU 1 goes to sleep.
    fn sleepers_meet_a_signal(&mut self) -> Result<()> {
        let way = self.way_of_a_signal()?;
        let (mut awake, mut asleep, mut inside, mut missed) = (0, 0, 0, Vec::new());
        for (n, position) in choose(&way, THIN, SPARSE).iter().enumerate() {
            self.begin()?;
            self.sleeper_comes()?;
            // It may lie on the way of an interrupt that does not come this time.
            if !self.track.owner_comes_to(position.rip, ARRIVES)? {
                if counts_if_missed(position.place) {
                    missed.push(position.rip);
                }
                self.end()?;
                continue;
            }
            if self.track.place_of(OWNER)? == Where::Inside {
                inside += 1;
                ensure!(!self.goes_on(WATCHED)?, "two hold the lock, {position:x?}");
                ensure!(self.track.owner_gets_through(SOON)?, "CPU {OWNER} does not leave, {position:x?}");
            }
            ensure!(self.goes_on(SOON)?, "CPU {OTHER} comes nowhere, {position:x?}");
            let slept = self.track.rip_of(OTHER)? == self.idle;
            if slept && n.is_multiple_of(2) {
                self.halt()?;
            }
            ensure!(self.track.owner_gets_through(SOON)?, "the signal waits for CPU {OTHER}, {position:x?}");
            if slept {
                asleep += 1;
                self.is_kicked().with_context(|| format!("{position:x?}"))?;
            } else {
                awake += 1;
            }
            self.end()?;
        }
        println!(
            "race_wake: {} instructions of a signal, {awake} awake, {asleep} asleep, {inside} inside",
            way.len()
        );
        ensure!(
            awake > inside && asleep > 0 && inside > 0 && missed.len() * 10 < awake + asleep,
            "{} of them were not met: {missed:x?}",
            missed.len()
        );
        Ok(())
    }

    /// Runs the sleeper's CPU on, which idles, to where it is halted. If an interrupt of its timer has it just then, it
    /// must not stand in the kernel, where others would wait for it.
    fn halt(&mut self) -> Result<()> {
        self.track.run_to(OTHER, self.woken, WATCHED)?;
        let rip = self.track.rip_of(OTHER)?;
        if !(self.idle..self.idle + IDLE_BYTES).contains(&rip) {
            ensure!(self.track.run_to(OTHER, self.idle, SOON)?, "CPU {OTHER} does not idle again, {rip:#x}");
        }
        Ok(())
    }

    /// Runs the sleeper alone until it has been woken or idles; whether it came so far.
    fn goes_on(&mut self, limit: Duration) -> Result<bool> {
        self.track.guest.gdb.set_breakpoint(self.idle)?;
        let came = self.track.run_to(OTHER, self.woken, limit)?;
        self.track.guest.gdb.clear_breakpoint(self.idle)?;
        Ok(came)
    }
}
