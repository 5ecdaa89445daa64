//! The jump sweep: a domain jumps to every byte of gates, vectors, stubs and exit, with registers, flags, stacks and trap
//! slots of its choice. It must come to the kernel's books as an event of its own, or back to itself with no more rights
//! than it had (docs/traps.md, *Why a jump to anywhere gives nothing*).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use iced_x86::Mnemonic;
use libpks::abi::layout::GATE_SYSCALL;
use libpks::pkey::{Pkey, Pkrs};
use tests::plan::is_full;

use crate::stand::{CELL, SLOTS, Stand};

/// How often each instruction is jumped to with `PORTCULLIS_FULL=1`, and each byte between two.
const OFTEN: (usize, usize) = (3, 1);
/// Every how many-th instruction is taken without, and every how many-th byte between two.
const STRIDES: (usize, usize) = (3, 32);
/// How often each WRMSR is jumped to, and each of so many instructions before it: there it matters most with what.
const WRITES: usize = 8;
const BEFORE_WRITE: usize = 3;
/// How long a jump may take before an NMI is sent.
const LIMIT: Duration = Duration::from_millis(500);
const LONGEST_INSTRUCTION: u64 = 15;
/// Numbers of general registers: all but RSP.
const GENERAL: [usize; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15];
const RSP: usize = 7;
/// Selectors of the kernel's code and data.
const CODE: u64 = 8;
const DATA: u64 = 16;
/// IA32_PKRS, and IA32_SYSENTER_CS, which stands for all others.
const REGISTERS: [u64; 2] = [0x6e1, 0x174];
/// Flags: interrupts on or off, and each of TF, DF, NT and AC.
const FLAGS: [u32; 6] = [0x202, 0x002, 0x302, 0x602, 0x4202, 0x4_0202];

/// What came of a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The kernel got an event, by the books.
    Event,
    /// The domain got on, with its own rights at most.
    Landed,
    /// It took an NMI to get it back.
    Watchdog,
}

/// Where a jump can come out.
struct Exits {
    event: u64,
    landing: u64,
    /// What the kernel does about its own mistakes.
    bugs: Vec<u64>,
}

/// What no jump may change.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    control: Vec<String>,
    cell: u64,
    other: Vec<u64>,
}

#[test]
fn a_jump_to_any_byte_of_the_entry_code_gives_nothing() -> Result<()> {
    let mut stand = Stand::new()?;
    let exits = exits(&mut stand)?;
    for &address in exits.bugs.iter().chain([&exits.event, &exits.landing]) {
        stand.guest.gdb.set_breakpoint(address)?;
    }
    let kept = kept(&mut stand)?;
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let mut outcomes = BTreeMap::<Outcome, usize>::new();
    for target in targets(&stand) {
        let setting = Setting::choose(&mut random, &stand, &exits);
        let outcome = attempt(&mut stand, target, &setting, &exits, &kept)
            .with_context(|| format!("jump to {target:#x} with {setting:x?}"))?;
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("jumps: {outcomes:?}");
    for wanted in [Outcome::Event, Outcome::Landed] {
        ensure!(outcomes.get(&wanted).is_some_and(|count| *count > 5), "hardly any {wanted:?}: {outcomes:?}");
    }
    for &address in exits.bugs.iter().chain([&exits.event, &exits.landing]) {
        stand.guest.gdb.clear_breakpoint(address)?;
    }
    stand.finish()
}

/// Every address that is jumped to, as often as it is.
fn targets(stand: &Stand) -> Vec<u64> {
    let starts: Vec<u64> = stand.text.addresses().collect();
    let between: Vec<u64> =
        starts.windows(2).flat_map(|pair| pair[0] + 1..pair[1].min(pair[0] + LONGEST_INSTRUCTION)).collect();
    let is_write = |window: &&[u64]| stand.text.at(window[BEFORE_WRITE]) == Some(Mnemonic::Wrmsr);
    let writes: Vec<u64> = starts.windows(BEFORE_WRITE + 1).filter(is_write).flatten().copied().collect();
    let often =
        |places: Vec<u64>, times| places.into_iter().flat_map(move |at| std::iter::repeat_n(at, times));
    let writes = often(writes, WRITES);
    if is_full() {
        return writes.chain(often(starts, OFTEN.0)).chain(often(between, OFTEN.1)).collect();
    }
    let (starts, between) = (starts.into_iter().step_by(STRIDES.0), between.into_iter().step_by(STRIDES.1));
    writes.chain(starts).chain(between).collect()
}

fn exits(stand: &mut Stand) -> Result<Exits> {
    // A domain comes back behind its call of the gate.
    let rsp = stand.players[0].rsp;
    let landing = stand.guest.gdb.read_word(rsp)?;
    let bugs = ["trap::kernel_nested", "trap::kernel_stop", "trap::kernel_too_deep"];
    let mut bugs = bugs.iter().map(|name| stand.guest.symbol(name)).collect::<Result<Vec<_>>>()?;
    bugs.push(stand.exit_port);
    Ok(Exits { event: stand.guest.symbol("trap::kernel_event")?, landing, bugs })
}

fn kept(stand: &mut Stand) -> Result<Kept> {
    let said = stand.guest.gdb.monitor("info registers")?;
    let wanted = |word: &&str| ["CR0=", "CR3=", "CR4=", "EFER="].iter().any(|name| word.starts_with(name));
    let tables = said.lines().filter(|line| line.starts_with("GDT=") || line.starts_with("IDT="));
    let control = said.split_whitespace().filter(wanted).chain(tables).map(str::to_owned).collect::<Vec<_>>();
    ensure!(control.len() == 6, "not all control registers in {said}");
    Ok(Kept { control, cell: stand.guest.gdb.read_word(CELL)?, other: stand.word_of_other()? })
}

/// With what a domain jumps.
#[derive(Debug)]
struct Setting {
    general: [u64; GENERAL.len()],
    rsp: u64,
    flags: u32,
    /// The frame on its stack, or else only addresses to return to.
    frame: bool,
    /// What it has put into the trap slots: RIP, RSP, RAX.
    slot: [u64; 3],
}

impl Setting {
    fn choose(random: &mut fastrand::Rng, stand: &Stand, exits: &Exits) -> Self {
        let [own, other] = stand.players;
        let texts: Vec<u64> = stand.text.addresses().collect();
        let word = |random: &mut fastrand::Rng| {
            // The last two close what carries no key at all, and all that does.
            let words = [Pkrs::KERNEL.raw(), 0, own.word.raw(), other.word.raw(), !0 << 2, 1, !0];
            u64::from(random.choice(words).unwrap_or_default())
        };
        let pointer = |random: &mut fastrand::Rng| match random.u32(..7) {
            0 => exits.landing,
            1 => own.rsp,
            2 => other.rsp,
            3 => CELL & !0xfff,
            4 => random.choice(texts.iter().copied()).unwrap_or_default(),
            5 => stand.addresses_of_other()[0],
            _ => random.u64(..),
        };
        let mut general = [0; GENERAL.len()];
        general.iter_mut().for_each(|value| *value = pointer(random));
        general[0] = word(random);
        // RCX: mostly PKRS, else nothing gets beyond the first comparison.
        general[2] = if random.u32(..5) == 0 { REGISTERS[1] } else { REGISTERS[0] };
        general[3] = 0;
        // A push would go over what the kernel keeps of the other thread, which is looked at afterwards.
        let books = stand.addresses_of_other()[0] + 8;
        let stacks = [own.rsp, own.rsp, own.rsp, books, books, other.rsp, SLOTS - 8, 0x8000_0000_0000_0000];
        let rsp = match random.usize(..stacks.len() + 6) {
            n if n < stacks.len() => stacks[n],
            n => SLOTS + (n - stacks.len() + 1) as u64 * 0x200 - 40,
        };
        let rip = if random.u32(..4) > 0 { exits.landing } else { pointer(random) };
        let slot = [rip, if random.bool() { own.rsp } else { pointer(random) }, word(random)];
        Self { general, rsp, flags: random.choice(FLAGS).unwrap_or(0x202), frame: random.bool(), slot }
    }

    fn apply(&self, stand: &mut Stand, landing: u64) -> Result<()> {
        let own = stand.players[0].rsp;
        let frame = |rip, rsp| [rip, CODE, 0x202, rsp, DATA].map(u64::to_le_bytes).concat();
        let stack = if self.frame { frame(landing, own) } else { landing.to_le_bytes().repeat(16) };
        stand.guest.gdb.write(own, &stack)?;
        let [rip, rsp, rax] = self.slot;
        // From the top of a slot down: the CPU's frame, then RAX, RCX and RDX.
        let saved = [0, REGISTERS[0], rax].map(u64::to_le_bytes).concat();
        for top in (1..=6).map(|slot| SLOTS + slot * 0x200) {
            stand.guest.gdb.write(top - 40, &frame(rip, rsp))?;
            stand.guest.gdb.write(top - 80, &saved)?;
        }
        for (number, value) in GENERAL.into_iter().zip(self.general) {
            stand.guest.gdb.set_general(number, value)?;
        }
        stand.guest.gdb.set_general(RSP, self.rsp)?;
        stand.guest.gdb.set_flags(self.flags)
    }
}

/// Jumps, and judges.
fn attempt(stand: &mut Stand, target: u64, setting: &Setting, exits: &Exits, kept: &Kept) -> Result<Outcome> {
    stand.home()?;
    setting.apply(stand, exits.landing)?;
    stand.guest.gdb.set_rip(target)?;
    // A breakpoint at the very place would stop before anything is done.
    if target == GATE_SYSCALL {
        stand.guest.gdb.step()?;
    }
    let mut late = false;
    let reached = loop {
        stand.guest.gdb.resume()?;
        if !stand.guest.gdb.stopped_within(LIMIT)? {
            ensure!(!late, "not even an NMI brings it back");
            late = true;
            stand.guest.gdb.interrupt()?;
            stand.guest.gdb.monitor("nmi")?;
            continue;
        }
        if let Some(reached) = judge(stand, exits)? {
            break reached;
        }
        // Its own word is in force: it runs the kernel's code as it could run its own.
        stand.guest.gdb.step()?;
    };
    let after = self::kept(stand)?;
    ensure!(after == *kept, "changed: {kept:x?} to {after:x?}");
    Ok(if late { Outcome::Watchdog } else { reached })
}

/// What it has come to; `None` if it is under way yet.
fn judge(stand: &mut Stand, exits: &Exits) -> Result<Option<Outcome>> {
    let rip = stand.guest.gdb.rip()?;
    let (live, own) = (Pkrs::from_raw(stand.pkrs()?), stand.players[0].word);
    let is_own = Pkey::all().all(|key| live.rights(key) <= own.rights(key));
    if rip == exits.landing {
        ensure!(is_own, "BREACH: back with {live:?} in place of {own:?}");
        return Ok(Some(Outcome::Landed));
    }
    if is_own {
        return Ok(None);
    }
    ensure!(live == Pkrs::KERNEL, "{rip:#x} under {live:?}");
    ensure!(!exits.bugs.contains(&rip), "the kernel takes it for a mistake of its own, at {rip:#x}");
    ensure!(rip == exits.event, "stopped at {rip:#x}");
    let depth = stand.depth()?;
    ensure!(depth == 1, "an event at depth {depth}");
    Ok(Some(Outcome::Event))
}
