//! M3: two threads of two domains in turn on one CPU, each under the word of its own domain.
//!
//! The other domain is made from this image, with an argument that says so ([`if_partner`]). A thread of each passes the
//! ball to the other, without a call between them. The first thing that each does in its turn is a read of what belongs
//! to the other domain alone, under that domain's own key. A region that both hold is open in both words, in another way.

use alloc::boxed::Box;

use libpks::abi::layout::PAGE;
use libpks::abi::start::{NamedCap, StartInfo};
use libpks::abi::{Error, name};
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::proto::pks_test::checks::{Checks, Run};
use libpks::rt::domain::{Placement, Plan};
use libpks::rt::text::cut;
use libpks::rt::thread::spawn;
use libpks::rt::unguarded::Unguarded;
use libpks::rt::{CapRights, Domain, Env, EnvError, Instant, Notification, Owned, Region, Thread};

use super::denied::{Denied, Expected, PLACE};
use crate::bench::{Page, Tools};
use crate::subject::{FAULT, PATIENCE, STEP, Subject, access, check_key_fault_of, open};

/// Turns of each of the two threads.
const TURNS: usize = 12;
const ROLE: &str = "role";
const PARTNER: &str = "partner";
const STACK: u64 = 32 * 1024;
const BYTES: u64 = 2 << 20;

/// How the two threads and who judges talk.
#[derive(Clone, Copy)]
struct Lines {
    /// The ball for the partner.
    theirs: Notification,
    /// The ball for this domain.
    ours: Notification,
    /// The partner's faults and steps; the address of its page first.
    note: Notification,
    /// Has the partner's thread resumed.
    resume: Notification,
    /// Lets the partner's thread go on.
    go: Notification,
}

impl Lines {
    const NAMES: [&str; 5] = ["theirs", "ours", "note", "resume", "go"];

    const fn of([theirs, ours, note, resume, go]: [Notification; 5]) -> Self {
        Self { theirs, ours, note, resume, go }
    }
}

/// What the image does as the partner. In another domain nothing.
///
/// # Errors
/// [`EnvError`] if it was not given what it needs.
pub(crate) fn if_partner(env: &Env) -> Result<(), EnvError> {
    if env.arg(ROLE) != Some(PARTNER) {
        return Ok(());
    }
    let mut lines = heapless::Vec::<Notification, 5>::new();
    for line in Lines::NAMES {
        let _ = lines.push(env.notification(line)?);
    }
    let lines = Lines::of(lines.into_array().unwrap_or_else(|_| unreachable!("as many as names")));
    let number = |named| env.arg(named).and_then(|text| text.parse::<u64>().ok());
    let (cpu, page) = (number("cpu").and_then(|cpu| cpu.try_into().ok()), number("page").unwrap_or(0));
    let ended = partner(lines, env.capability("shared")?, cpu, page, env.priority());
    panic!("the partner has ended: {ended:?}")
}

/// The partner's first thread: starts the other, and resumes it when told.
fn partner(
    lines: Lines,
    shared: Region,
    cpu: Option<u32>,
    page: u64,
    priority: u8,
) -> Result<core::convert::Infallible, Error> {
    let own = Region::create(PAGE, None)?;
    let denied = Denied {
        raw: Unguarded::in_regions(page, PAGE)?,
        access: Access::Read,
        key: Pkey::OPEN,
        go: lines.go,
    };
    let player = spawn(STACK, priority, move || -> Result<(), Error> {
        let thread = Thread::current()?;
        thread.on_fault(lines.note, FAULT)?;
        thread.bind(cpu)?;
        drop(thread);
        let held = shared.open_read()?;
        loop {
            lines.theirs.wait(None)?;
            denied.attempt(lines.note)?;
            held.read_u64(0)?;
            lines.ours.signal(1)?;
        }
    })?;
    lines.note.signal(own.info()?.address)?;
    loop {
        lines.resume.wait(None)?;
        player.thread().resume()?;
    }
}

/// The other domain, from this one. Dropping it ends it.
struct Partner {
    domain: Owned<Domain>,
    lines: Lines,
    _owned: [Owned<Notification>; 5],
    /// A page of its own.
    page: Unguarded,
    key: Pkey,
}

impl Partner {
    fn start(tools: &Tools, cpu: u32, ours: &Page, shared: Region) -> Run<Self> {
        let made = Notification::create;
        let owned = [made()?, made()?, made()?, made()?, made()?];
        let stress::Nursery { quota, image, priority } = tools.nursery;
        let domain = Domain::create(&Plan {
            name: PARTNER,
            image,
            quota,
            quota_bytes: BYTES,
            priority,
            budget: Budget::DEFAULT,
            overrun_ns: OVERRUN_DEFAULT_NS,
            placement: Placement::Here,
        })?;
        let page = ours.address();
        let args = cut::<96>(format_args!("{ROLE}={PARTNER} cpu={cpu} page={page} priority={priority}"));
        let args = args.as_str().try_into().map_err(|_| Error::TooLarge)?;
        let mut info =
            Box::new(StartInfo { name: name(PARTNER), args, restarts: 0, caps: Default::default() });
        let mut give = |named: &str, handle: libpks::rt::Handle| {
            let named = NamedCap { name: name(named), handle: handle.raw() };
            info.caps.push(named).map_err(|_| Error::TooLarge)
        };
        for (line, named) in owned.iter().zip(Lines::NAMES) {
            give(named, domain.grant(**line, CapRights::SIGNAL | CapRights::WAIT, 0)?)?;
        }
        give("shared", domain.grant(shared, CapRights::READ, 0)?)?;
        domain.start(STACK, &info)?;
        let lines = Lines::of([0, 1, 2, 3, 4].map(|at: usize| *owned[at]));
        let address = lines.note.wait(Some(Instant::after(PATIENCE)))?;
        let (page, key) = (Unguarded::in_regions(address, PAGE)?, tools.leaf(address)?.key());
        Ok(Self { domain, lines, _owned: owned, page, key })
    }

    /// Its thread must fault at our page; then it goes on.
    fn judge(&self, tools: &Tools, checks: &Checks, ours: &Page, expected: Expected, turn: usize) -> Run {
        let next = || self.lines.note.wait(Some(Instant::after(PATIENCE)));
        checks.same(format_args!("turn {turn}: what the partner's thread signals"), next()?, FAULT)?;
        let report = tools.inspect.fault(0)?.ok_or(Error::NotFound)?;
        let address = ours.address() + PLACE;
        check_key_fault_of(checks, PARTNER, &report, address, Access::Read, ours.key, expected.word)?;
        checks.same(format_args!("turn {turn}: the CPU of its fault"), report.cpu, expected.cpu)?;
        let opened = tools.tamper_with_leaf(ours.address(), Pkey::OPEN)?;
        self.lines.resume.signal(1)?;
        checks.same(format_args!("turn {turn}: how it goes on"), next()?, STEP)?;
        drop(opened);
        Ok(self.lines.go.signal(1)?)
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.domain.stop();
    }
}

pub(in crate::scenarios) fn run(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let last = tools.cpus()?.saturating_sub(1);
    let mut words = [Pkrs::DEFAULT; 2];
    for cpu in [0, last] {
        words = on_cpu(tools, checks, cpu)?;
    }
    let [ours, theirs] = words.map(Pkrs::raw);
    Ok(cut(format_args!(
        "{} turns on CPUs 0 and {last} between {ours:#010x} here and {theirs:#010x} there",
        4 * TURNS
    )))
}

/// Gives the two words.
fn on_cpu(tools: &Tools, checks: &Checks, cpu: u32) -> Run<[Pkrs; 2]> {
    let (ours, shared) = (Page::new(None)?, Page::new(None)?);
    let partner = Partner::start(tools, cpu, &ours, *shared.region)?;
    // It has another key since two domains hold it.
    let key = Pkey::new(shared.region.info()?.key).ok_or(Error::Malformed)?;
    let words = [
        tools.base_word()?.with(key, Rights::ReadWrite),
        Pkrs::DEFAULT.with(partner.key, Rights::ReadWrite).with(key, Rights::ReadOnly),
    ];
    checks.same(format_args!("the key of a page of this domain alone"), ours.key, tools.own_key()?)?;
    let mut keys = [Pkey::OPEN, Pkey::KERNEL, ours.key, partner.key, key];
    keys.sort_unstable();
    checks.that(keys.windows(2).all(|pair| pair[0] != pair[1]), format_args!("not different: {keys:?}"))?;

    let go = Notification::create()?;
    let denied = Denied { raw: partner.page, access: Access::Read, key: partner.key, go: *go };
    let (lines, region, raw) = (partner.lines, *shared.region, shared.raw);
    let subject = Subject::start(tools, Some(cpu), move |note| {
        let _held = open(region, Rights::ReadWrite)?;
        for turn in 0..TURNS {
            if turn > 0 {
                lines.ours.wait(Some(Instant::after(PATIENCE)))?;
            }
            denied.attempt(note)?;
            access(&raw, 0, Access::Write, turn as u64)?;
            lines.theirs.signal(1)?;
        }
        lines.ours.wait(Some(Instant::after(PATIENCE)))
    })?;
    let before = tools.counters(cpu)?.switches;
    for turn in 0..TURNS {
        let what = format_args!("CPU {cpu}, turn {turn}, the thread of this domain");
        denied.judge(tools, checks, &subject, Expected { cpu, word: words[0] }, what)?;
        partner.judge(tools, checks, &ours, Expected { cpu, word: words[1] }, turn)?;
    }
    subject.finish()?;
    let switches = tools.counters(cpu)?.switches.wrapping_sub(before);
    checks.that(
        switches >= 2 * TURNS as u64,
        format_args!("CPU {cpu}: {switches} switches in {} turns", 2 * TURNS),
    )?;
    Ok(words)
}
