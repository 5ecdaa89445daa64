//! An NMI at every instruction of the entry code, and inside the kernel a vector 18 without a machine check. Each must
//! leave no trace: registers, PKRS and DEPTH are compared bit for bit, and the word of a second thread.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use iced_x86::Mnemonic;
use tests::guest::SOON;
use tests::plan::is_full;

use crate::retry::{ATTEMPTS, Elsewhere};
use crate::stand::{CELL, End, Stand, frame_rip};
use crate::ways::{Events, WAYS, Way};

/// #MC with MCG_STATUS clear, as it was: what INT 18 claims and no machine check is.
const SPURIOUS: &str = "mce 0 0 0xbe00000000000135 0 0x1234 0x8c";
/// The deepest DEPTH that has a stack (`window::DEEPEST`).
const DEEPEST: u32 = 11;

/// What has been done.
#[derive(Debug, Default)]
struct Done {
    passed: BTreeSet<u64>,
    nmis: BTreeSet<u64>,
    held_back: BTreeSet<u64>,
    spurious: BTreeSet<u64>,
}

impl Done {
    fn events(&self) -> usize {
        self.nmis.len() + self.held_back.len() + self.spurious.len()
    }
}

#[test]
fn nmi_at_every_instruction_of_the_entry_code() -> Result<()> {
    let mut stand = Stand::new()?;
    let mut done = Done::default();
    for way in WAYS {
        repeat(&mut done, |done| follow(&mut stand, way, done))
            .with_context(|| format!("way: {}", way.name))?;
    }
    every_vector(&mut stand, &mut done)?;
    let all: BTreeSet<u64> = stand.text.addresses().collect();
    let missed: Vec<_> = all.difference(&done.passed).map(|at| format!("{at:#x}")).collect();
    let without: Vec<_> = all
        .difference(&done.nmis.union(&done.held_back).copied().collect())
        .map(|at| format!("{at:#x}"))
        .collect();
    println!(
        "{} instructions, {} passed; NMIs at {}, held back at {}; vector 18 inside the kernel at {}",
        all.len(),
        done.passed.len(),
        done.nmis.len(),
        done.held_back.len(),
        done.spurious.len()
    );
    ensure!(missed.is_empty(), "not passed: {missed:?}");
    ensure!(without.is_empty(), "without an NMI: {without:?}");
    ensure!(done.spurious.len() > 300, "vector 18 at {} instructions only", done.spurious.len());
    stand.finish()
}

/// Tries again where an event came elsewhere, as long as each few attempts get further.
fn repeat(done: &mut Done, mut attempt_fn: impl FnMut(&mut Done) -> Result<()>) -> Result<()> {
    let mut failed = 0;
    loop {
        let before = done.events();
        let Err(why) = attempt_fn(done) else { return Ok(()) };
        failed = if done.events() > before { 0 } else { failed + 1 };
        if failed == ATTEMPTS || !why.is::<Elsewhere>() {
            return Err(why);
        }
        println!("once more: {why:#}");
    }
}

/// Goes a way with an event at each instruction that has had none yet.
fn follow(stand: &mut Stand, way: &Way, done: &mut Done) -> Result<()> {
    way.begin(stand)?;
    if way.events == Events::NmisHeldBack {
        return follow_held_back(stand, done);
    }
    let in_machine_check = way.name.contains("18");
    let end = stand.walk(&mut |stand, at| {
        done.passed.insert(at);
        if done.nmis.insert(at) || is_full() {
            let arrived = nmi(stand);
            if arrived.is_err() {
                done.nmis.remove(&at);
            }
            arrived?;
        }
        // A second machine check inside the first is a shutdown of the CPU, so that slot is used once at a time. At the
        // deepest level there is no stack for one more trap.
        if !in_machine_check
            && (1..DEEPEST).contains(&stand.depth()?)
            && (is_full() || !done.spurious.contains(&at))
        {
            spurious(stand)?;
            done.spurious.insert(at);
        }
        Ok(())
    })?;
    if end == End::Left && stand.depth()? == 0 {
        let (word, cell) = (stand.pkrs()?, stand.guest.gdb.read_word(CELL)?);
        ensure!(u64::from(word) == cell, "left under {word:#x} instead of {cell:#x}");
    }
    match (way.goes_on, end) {
        (true, End::Left) => stand.other_is_untouched(),
        (true, End::Stopped) => bail!("the machine stops"),
        (false, _) => Ok(()),
    }
}

/// Has an NMI arrive at just this instruction, and come back.
fn nmi(stand: &mut Stand) -> Result<()> {
    let before = stand.expected_after()?;
    let stub = stand.nmi;
    stand.strike("nmi", stub, 1)?;
    let iretq = stand.text.next(stub, Mnemonic::Iretq)?;
    stand.must_be_back_by(iretq, &before)
}

/// Has a #MC arrive that is none.
fn spurious(stand: &mut Stand) -> Result<()> {
    let before = stand.seen()?;
    let stub = stand.guest.symbol("traps::level3")?;
    stand.strike(SPURIOUS, stub, 3)?;
    let nested = stand.guest.symbol("traps::nested3")?;
    let iretq = stand.text.next(nested, Mnemonic::Iretq)?;
    stand.must_be_back_by(iretq, &before)
}

/// A way on which the CPU holds NMIs back: one that comes at any of its instructions arrives when the handler has
/// ended, and not inside it.
fn follow_held_back(stand: &mut Stand, done: &mut Done) -> Result<()> {
    stand.guest.gdb.save("way")?;
    let mut passed = Vec::new();
    stand.walk(&mut |_, at| {
        passed.push(at);
        Ok(())
    })?;
    for at in passed {
        done.passed.insert(at);
        if done.held_back.contains(&at) && !is_full() {
            continue;
        }
        stand.guest.gdb.load("way")?;
        if stand.guest.gdb.rip()? != at {
            stand.come_to(at)?;
        }
        let other = stand.word_of_other()?;
        let (stub, first) = (stand.nmi, stand.guest.gdb.rip()? == stand.nmi);
        stand.guest.gdb.monitor("nmi")?;
        if first {
            stand.guest.gdb.step()?;
        }
        ensure!(stand.guest.gdb.go_to(&[stub], SOON)?, "no NMI arrived after one at {at:#x}");
        let hit = stand.guest.gdb.read_word(frame_rip(1))?;
        let inside = (stub..stub + 0x400).contains(&hit) && stand.text.at(hit).is_some();
        ensure!(!inside, "the NMI at {at:#x} of the handler arrived inside it, at {hit:#x}");
        ensure!(stand.word_of_other()? == other, "the thread that waits lost its word to the NMI at {at:#x}");
        done.held_back.insert(at);
    }
    Ok(())
}

/// The two instructions of each vector's stub. Nothing but registers has changed there, so they can be put back.
fn every_vector(stand: &mut Stand, done: &mut Done) -> Result<()> {
    stand.home()?;
    let vectors = stand.guest.symbol("traps::vectors")?;
    for vector in 0..=255_u8 {
        repeat(done, |done| one_vector(stand, vectors, vector, done))
            .with_context(|| format!("vector {vector}"))?;
    }
    Ok(())
}

fn one_vector(stand: &mut Stand, vectors: u64, vector: u8, done: &mut Done) -> Result<()> {
    let start = vectors + u64::from(vector) * 16;
    let before = stand.guest.gdb.all_registers()?;
    stand.execute_in_domain(&[0xcd, vector])?;
    for _ in 0..2 {
        let at = stand.guest.gdb.rip()?;
        if !(start..start + 16).contains(&at) {
            break;
        }
        done.passed.insert(at);
        if done.nmis.insert(at) {
            let arrived = nmi(stand);
            if let Err(why) = arrived {
                done.nmis.remove(&at);
                stand.home()?;
                return Err(why);
            }
        }
        stand.guest.gdb.step()?;
    }
    if !done.passed.contains(&start) {
        bail!("INT {vector} does not come to its stub");
    }
    stand.guest.gdb.set_all_registers(&before)
}
