//! A race: CPU 0 takes something away, CPU 1 stands still at an instruction of its way.
//!
//! The guest's scenarios (`servers/ipc_test/src/scenarios/races.rs`) come by three lines: before CPU 0 takes something
//! away, when the kernel has said that it is gone, and when CPU 1 has been seen to fail. CPU 0 stands at the first while
//! CPU 1 is put where it is wanted. Whether CPU 0 may then come to the second alone follows from two words of the
//! kernel's (kernel/src/lock.rs): CPU 1 is not inside: it must be waited for; it is inside and has the lock: CPU 0
//! waits for that; it is inside and waits: CPU 0 goes on without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, KERNEL_BASE};
use libpks::abi::name;
use libpks::pkey::{Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Verdict;
use libpks::proto::testlink::{Reply, Request};
use tests::gdbstub::function;
use tests::guest::{Guest, PATIENT, SOON, boot, close};
use tests::plan::Running;

/// The side that takes away.
const OWNER: usize = 0;
/// The side that is taken from.
const OTHER: usize = 1;
/// How long the owner is watched where it must not go on. A kernel that does not wait is through in microseconds; a
/// slow host can hide that at one instruction, never make a right kernel fail.
const WATCHED: Duration = Duration::from_millis(8);
/// How long the other side may take to a position. It is there in microseconds, or not on its way this time; the
/// guest's own patience (10 s) must not run out meanwhile.
const ARRIVES: Duration = Duration::from_millis(500);
/// Rounds in which a position is looked for.
const TRIES: usize = 4;
/// What a step may take. The CPU is halted if it takes longer.
const STEP: Duration = Duration::from_millis(500);
/// Instructions of the other side's way at most.
const LONGEST_ROUND: usize = 12_000;
/// CELL, in the CPU window (kernel/src/arch/window.rs).
const CELL: u64 = 0xffff_ffff_c000_0008;
/// Where the stub of a vector leaves its number for level 6, and where the CPU leaves RIP (docs/traps.md).
const VECTOR_SLOT: u64 = 0xffff_ffff_c000_3c00 - 96;
const RIP_SLOT: u64 = 0xffff_ffff_c000_3c00 - 40;
/// The vector by which a CPU is asked in (kernel/src/arch/apic.rs).
const KICK: u64 = 0x21;
/// RDI among the registers.
const FIRST_ARGUMENT: usize = 5;
/// The server whose scenarios these are.
const SERVER: &str = "ipc_test";

/// What the kernel's books say of the other side while it stands still and the owner is in its domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    /// It runs a domain, or is on its way in or out.
    Outside,
    /// It waits for the kernel's lock.
    Waiting,
    /// It has the lock.
    Inside,
}

/// A race that is run again and again.
struct Track {
    guest: Guest,
    lines: [u64; 3],
    /// The kernel's [`libpks::smp::Presence`]: a byte for the lock, then one for each CPU.
    presence: u64,
    waits: u64,
}

/// An instruction of the other side's way, and where it is then.
#[derive(Clone, Copy, Debug)]
struct Position {
    rip: u64,
    place: Where,
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
    fn new(guest: Guest, running: &mut Running) -> Result<Self> {
        let base = (0..).find_map(|index| match running.link.ask(&Request::Domain { index }, PATIENT) {
            Ok(Reply::Domain(Some(domain))) if domain.name == SERVER => Some(Ok(domain.base)),
            Ok(Reply::Domain(Some(_))) => None,
            other => Some(Err(anyhow!("no {SERVER}: {other:?}"))),
        });
        let base = base.context("no domains")?? + libpks::abi::layout::IMAGE_OFFSET;
        let system = guest.system();
        let servers = system.servers().iter().zip(system.symbols().iter().skip(1));
        let (_, file) = servers.into_iter().find(|(module, _)| module.name == SERVER).context(SERVER)?;
        let line = |path| Ok::<_, anyhow::Error>(base + function(file, path)?);
        let lines = [line("races::starting_line")?, line("races::finish_line")?, line("races::over")?];
        let (presence, waits) = (guest.symbol("lock::PRESENCE")?, guest.symbol("await_cpu")?);
        Ok(Self { guest, lines, presence, waits })
    }

    /// Where the other side is.
    fn place(&mut self) -> Result<Where> {
        let [held, inside @ ..] = self.guest.gdb.read_word(self.presence)?.to_le_bytes();
        Ok(match (held, inside[OTHER]) {
            (0, 0) => Where::Outside,
            (0, _) => Where::Waiting,
            _ => Where::Inside,
        })
    }

    fn other_rip(&mut self) -> Result<u64> {
        self.guest.gdb.select(OTHER)?;
        self.guest.gdb.rip()
    }

    /// Runs everything until the owner comes to a line. Accesses of the other side to what is watched are errors.
    fn until_line(&mut self, line: usize) -> Result<bool> {
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
    fn round(&mut self) -> Result<Vec<Position>> {
        ensure!(self.until_line(0)?, "the owner does not come to the starting line");
        // First to where it is outside, at the end of a way out.
        let exit = self.guest.symbol("exit::trap_exit")?;
        ensure!(self.run_other_to(exit, SOON)?, "CPU {OTHER} does not leave the kernel");
        let mut way = Vec::new();
        let first = self.other_rip()?;
        for _ in 0..LONGEST_ROUND {
            let (rip, place) = (self.other_rip()?, self.place()?);
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

    /// Runs the other side alone to an instruction; whether it came there in time.
    fn run_other_to(&mut self, rip: u64, limit: Duration) -> Result<bool> {
        if self.other_rip()? == rip {
            return Ok(true);
        }
        self.guest.gdb.set_breakpoint(rip)?;
        self.guest.gdb.resume_only(OTHER)?;
        let arrived = self.guest.gdb.stopped_within(limit)?;
        if !arrived {
            self.guest.gdb.interrupt()?;
        }
        self.guest.gdb.clear_breakpoint(rip)?;
        Ok(arrived)
    }

    /// Lets the owner run alone until it is through; whether it was in time.
    fn owner_gets_through(&mut self, limit: Duration) -> Result<bool> {
        let finish = self.lines[1];
        self.guest.gdb.set_breakpoint(finish)?;
        self.guest.gdb.resume_only(OWNER)?;
        let through = self.guest.gdb.stopped_within(limit)?;
        if !through {
            self.guest.gdb.interrupt()?;
        }
        self.guest.gdb.clear_breakpoint(finish)?;
        Ok(through)
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
        let at = self.other_rip()?;
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
        let rip = self.other_rip()?;
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
    fn run(&mut self, race: &Race, rip: u64, patient: bool) -> Result<Option<Where>> {
        ensure!(self.until_line(0)?, "the owner does not come to the starting line");
        self.guest.gdb.select(OWNER)?;
        let region = self.guest.gdb.general(FIRST_ARGUMENT)?;
        if !self.run_other_to(rip, ARRIVES)? {
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
            ensure!(self.run_other_to(exit, SOON)?, "CPU {OTHER} does not leave the kernel");
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

/// Has the guest run a scenario until it is told to stop; gives the link back.
fn scenarios(mut running: Running, scenario: &str, stop: &AtomicBool) -> Result<Running> {
    while !stop.load(Ordering::SeqCst) {
        let reply = running.link.ask(&Request::Run { name: name(scenario) }, PATIENT * 2)?;
        let Reply::Outcome(outcome) = &reply else { bail!("not an outcome: {reply:?}") };
        ensure!(outcome.verdict == Verdict::Pass, "{scenario}: {outcome:?}");
    }
    Ok(running)
}

/// Runs races one after the other in one boot, each with the other side at each of its positions.
pub(crate) fn drive(races: &[Race]) -> Result<()> {
    let (guest, mut running) = boot(2)?;
    let mut track = Track::new(guest, &mut running)?;
    for race in races {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        track.guest.gdb.interrupt()?;
        let scenario = race.scenario;
        let worker = thread::spawn(move || scenarios(running, scenario, &told));
        let driven = drive_one(&mut track, race).with_context(|| scenario.to_owned());
        stop.store(true, Ordering::SeqCst);
        let _ = track.guest.gdb.resume();
        let ended = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
        // What the guest saw says more than what we saw.
        running = match (driven, ended) {
            (Ok(()), ended) => ended?,
            (Err(driven), Err(ended)) => bail!("{driven:#}; the guest: {ended:#}"),
            (Err(driven), Ok(running)) => bail!("{driven:#}\n{}", running.console.tail(20)),
        };
    }
    close(running)
}

fn drive_one(track: &mut Track, race: &Race) -> Result<()> {
    let way = track.round()?;
    let chosen = choose(&way, race);
    let mut seen = [0_usize; 3];
    let mut missed = 0;
    for (n, position) in chosen.iter().enumerate() {
        let what = || format!("with CPU {OTHER} at {:#x}, {:?}", position.rip, position.place);
        let mut place = None;
        // The other side may be past it when the owner comes to the starting line; or it lies on the way of an interrupt
        // that does not come this time.
        for _ in 0..TRIES {
            place = track.run(race, position.rip, n % 2 == 1).with_context(what)?;
            if place.is_some() {
                break;
            }
        }
        match place {
            Some(place) => seen[place as usize] += 1,
            None => missed += 1,
        }
    }
    println!(
        "{}: {} instructions, {seen:?} outside, waiting, inside, {missed} missed",
        race.scenario,
        way.len()
    );
    ensure!(seen[Where::Outside as usize] > 0, "CPU {OTHER} was never outside");
    ensure!(missed * 10 < chosen.len(), "{missed} of {} positions were missed", chosen.len());
    Ok(())
}

/// The positions to try: each instruction once.
fn choose(way: &[Position], race: &Race) -> Vec<Position> {
    let full = std::env::var_os("PORTCULLIS_FULL").is_some_and(|value| value == "1");
    let mut counts = [0_usize; 3];
    let mut known = std::collections::BTreeSet::new();
    let new = way.iter().filter(|position| known.insert(position.rip));
    new.filter(|position| {
        let count = &mut counts[position.place as usize];
        *count += 1;
        let each = match position.place {
            _ if full => 1,
            Where::Inside => race.sparse,
            Where::Outside => race.thin,
            Where::Waiting => 1,
        };
        (*count - 1).is_multiple_of(each)
    })
    .copied()
    .collect()
}
