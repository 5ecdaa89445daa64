//! A signal meets a thread on its way to sleep. Whoever gets the kernel's lock first, the thread does not sleep on: it has
//! found the bits, or the very next thing that comes to its CPU is the kick.
//!
//! CPU 0 signals, CPU 1 goes to sleep (`servers/ipc_test/src/scenarios/wake.rs`). First CPU 1 stands at an instruction of
//! its way and CPU 0 goes all of its own; then the other way round.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
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

    /// The instructions of a CPU from where it stands to `end`, or until it has halted.
    fn way(&mut self, cpu: usize, end: u64) -> Result<Vec<Position>> {
        let mut way = Vec::new();
        for _ in 0..LONGEST_ROUND {
            let rip = self.track.rip_of(cpu)?;
            // QEMU steps over HLT, after which the idle loop begins again.
            let idled = rip == self.idle && way.iter().any(|seen: &Position| seen.rip == rip);
            if rip == end || idled {
                return Ok(way);
            }
            way.push(Position { rip, place: self.track.place_of(cpu)? });
            if !self.track.guest.gdb.step_only(cpu, STEP)? {
                return Ok(way);
            }
        }
        bail!("the way of CPU {cpu} does not end")
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
        self.begin()?;
        self.sleeper_comes()?;
        let way = self.way(OTHER, 0)?;
        self.end()?;
        let (mut awake, mut asleep, mut inside, mut left, mut missed) = (0, 0, 0, 0, 0);
        for position in choose(&way, THIN, SPARSE) {
            self.begin()?;
            self.sleeper_comes()?;
            // It may lie on the way of an interrupt that does not come this time.
            if !self.track.run_to(OTHER, position.rip, ARRIVES)? {
                missed += u32::from(counts_if_missed(position.place));
                self.end()?;
                continue;
            }
            left += u32::from(self.sleeps()?);
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
            awake > 0 && asleep > left && left > 0 && inside > 0 && missed * 10 < awake + asleep,
            "not all of them were met"
        );
        Ok(())
    }

    /// CPU 0 stands, CPU 1 goes to sleep.
    fn sleepers_meet_a_signal(&mut self) -> Result<()> {
        self.begin()?;
        self.sleeper_comes()?;
        let finish = self.track.lines[1];
        let way = self.way(OWNER, finish)?;
        self.end()?;
        let (mut awake, mut asleep, mut inside, mut missed) = (0, 0, 0, 0);
        for (n, position) in choose(&way, THIN, SPARSE).iter().enumerate() {
            self.begin()?;
            self.sleeper_comes()?;
            // It may lie on the way of an interrupt that does not come this time.
            if !self.track.owner_comes_to(position.rip, ARRIVES)? {
                missed += u32::from(counts_if_missed(position.place));
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
            awake > inside && asleep > 0 && inside > 0 && missed * 10 < awake + asleep,
            "not all of them were met"
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
