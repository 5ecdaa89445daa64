//! Rights that were taken back, and memory that was others' before.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use libpks::abi::Syscall;
use libpks::abi::layout::{
    CONTEXT_BYTES, GATE_CALL, IPC_BUFFER_BYTES, KERNEL_BASE, PAGE, SLOT_BYTES, STACK_TOP_OFFSET,
    ipc_buffer_of,
};
use libpks::abi::message::{Info, Transfer, TransferMode};
use libpks::proto::supervisor::Request;
use libpks::rt::thread::{JoinHandle, spawn};
use libpks::rt::{Capability, Error, Instant, Notification, Region, Thread, raw, time};

use crate::act::{self, After, Registers, STACK, leap, own_slot, read, slot_tops, write};
use crate::{Case, Loot, Means, Outcome, all_refused, unless};

/// How long a thread may take to get on.
const PATIENCE: Duration = Duration::from_secs(25);
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
const ROUNDS: usize = 3;
const PAGES: u64 = 24;
/// Stack of a thread that looks through it, of which the upper part is in use.
const LARGE_STACK: u64 = 64 * 1024;
const IN_USE: u64 = 4096;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let Case { means, target, .. } = *case;
    let priority = means.priority;
    Some(match (case.name, case.region) {
        ("read_after_revoke" | "read_after_loan", Some(region)) => {
            keep_using(region, priority, |target| _ = read(target)).map(|_| Loot::Nothing)
        }
        ("read_after_revoke_elsewhere", Some(region)) => keep_moving(region, priority),
        ("write_after_revoke", Some(region)) => {
            keep_using(region, priority, |target| write(target, 1)).map(|_| Loot::Nothing)
        }
        ("global_after_revoke", Some(region)) => read_after_sleep(region, target, priority),
        ("close_what_is_not_its_own", _) => close_others(priority),
        ("use_memory_after_free", _) => use_memory_after_free(),
        ("fresh_regions", _) => fresh_regions(),
        ("fresh_heap", _) => fresh_heap(),
        ("fresh_stacks", _) => fresh_stacks(priority),
        ("trap_slots", _) => act::at_home(priority, move || look_into_slots(priority)),
        ("registers_after_call", _) => registers_after_call(means),
        ("long_buffer", _) => long_buffer(means),
        _ => return None,
    })
}

/// Opens a region in a thread of its own, which uses it for ever without entering the kernel; comes back once that
/// works.
fn keep_using(region: Region, priority: u8, use_fn: fn(u64)) -> Result<JoinHandle<Result<(), Error>>, Error> {
    static USES: AtomicU64 = AtomicU64::new(0);
    let target = region.info()?.address;
    let thread = spawn(STACK, priority, move || -> Result<(), Error> {
        let _open = region.open_write()?;
        loop {
            use_fn(target);
            USES.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let until = Instant::after(PATIENCE);
    while USES.load(Ordering::Relaxed) < 100 {
        if Instant::now() > until {
            return Err(Error::TimedOut);
        }
        time::sleep(Duration::from_millis(1))?;
    }
    Ok(thread)
}

/// The same, and another thread moves that one from CPU to CPU.
fn keep_moving(region: Region, priority: u8) -> Outcome {
    let reader = keep_using(region, priority, |target| _ = read(target))?.thread();
    spawn(STACK, priority, move || {
        for cpu in (0..4).cycle() {
            // A CPU that there is not is passed over.
            let _ = reader.bind(Some(cpu));
            let _ = time::sleep(Duration::from_millis(1));
        }
    })?;
    time::sleep(Duration::from_millis(10))?;
    Ok(Loot::Nothing)
}

fn read_after_sleep(region: Region, target: u64, priority: u8) -> Outcome {
    region.open_global(libpks::rt::region::Access::ReadOnly)?;
    let _ = read(target);
    spawn(STACK, priority, move || -> Result<(), Error> {
        loop {
            time::sleep(Duration::from_millis(20))?;
            let _ = read(target);
        }
    })?;
    Ok(Loot::Nothing)
}

/// Ends openings by numbers that are made up: those of another thread among them.
fn close_others(priority: u8) -> Outcome {
    let region = Region::create(PAGE, None)?.keep();
    let open = spawn(STACK, priority, move || -> Result<(), Error> {
        let _open = region.open_write()?;
        libpks::rt::serve::park()
    })?;
    time::sleep(Duration::from_millis(20))?;
    let _ = open.thread();
    let places = (0..256).flat_map(|place| (0..4).map(move |generation| generation << 32 | place));
    let close = |token| raw::operate(Syscall::RegionClose as u64, 0, [token, 0, 0, 0, 0, 0, 0, 0]).map(drop);
    all_refused(Error::NoSuchCapability, places.chain([u64::MAX]).map(close))
}

fn use_memory_after_free() -> Outcome {
    let region = Region::create(PAGE, None)?;
    let address = region.info()?.address;
    core::mem::forget(region.open_write()?);
    write(address, SECRET);
    drop(region);
    Ok(Loot::Got(read(address)))
}

/// The first word that is not zero in a range, which must be this domain's own.
fn leftover(from: u64, to: u64) -> Option<u64> {
    (from..to).step_by(8).map(read).find(|word| *word != 0)
}

fn fill(from: u64, to: u64) {
    (from..to).step_by(8).for_each(|address| write(address, SECRET));
}

fn fresh_regions() -> Outcome {
    for _ in 0..ROUNDS {
        let region = Region::create(PAGES * PAGE, None)?;
        let open = region.open_write()?;
        let (from, to) = (open.address(), open.address() + open.bytes());
        if let Some(word) = leftover(from, to) {
            return Ok(Loot::Got(word));
        }
        fill(from, to);
    }
    Ok(Loot::Nothing)
}

/// The allocator knows nothing of this part of the heap, and gets no more of it.
fn fresh_heap() -> Outcome {
    let bytes = 16 * PAGE;
    for _ in 0..ROUNDS {
        let from = raw::operate(Syscall::HeapGrow as u64, 0, [bytes, 0, 0, 0, 0, 0, 0, 0])?[0];
        if let Some(word) = leftover(from, from + bytes) {
            return Ok(Loot::Got(word));
        }
        fill(from, from + bytes);
    }
    Ok(Loot::Nothing)
}

fn fresh_stacks(priority: u8) -> Outcome {
    for _ in 0..ROUNDS {
        let found = spawn(LARGE_STACK, priority, || {
            let here = 0_u64;
            let rsp = (&raw const here).expose_provenance() as u64;
            let top = (rsp & !(CONTEXT_BYTES - 1)) + STACK_TOP_OFFSET;
            let (buffer, bottom) = (ipc_buffer_of(rsp), top - LARGE_STACK);
            let found = leftover(bottom, top - IN_USE).or_else(|| leftover(buffer, buffer + PAGE));
            fill(bottom, top - IN_USE);
            fill(buffer, buffer + PAGE);
            found
        })?;
        if let Some(word) = found.join(None)? {
            return Ok(Loot::Got(word));
        }
    }
    Ok(Loot::Nothing)
}

/// What the CPU and the stubs put into slots, when somebody else ran: RIP and RSP, the three registers, PKRS. For a
/// thread at home, which can be bound to a CPU. There is always somebody to interrupt, with something in every register.
fn look_into_slots(priority: u8) -> Outcome {
    Thread::current()?.bind(Some(0))?;
    let busy = spawn(STACK, priority.saturating_sub(1), || -> Result<(), Error> {
        Thread::current()?.bind(Some(0))?;
        let mut secrets = [SECRET; 8];
        loop {
            secrets = black_box(secrets.map(|secret| secret.rotate_left(1)));
        }
    })?;
    let outcome = slots_while_busy();
    busy.thread().kill()?;
    outcome
}

fn slots_while_busy() -> Outcome {
    let own = own_slot();
    // What earlier domains have written there by themselves is no secret of the kernel's making: that goes first.
    time::yield_now();
    for slot in slot_tops() {
        [40, 16, 64, 72, 80, 88].into_iter().for_each(|offset| write(slot - offset, 0));
    }
    // A domain leaves through a slot: what is its own is no secret, nor where it comes out of a gate.
    let is_own = |word: u64| (own..own + SLOT_BYTES).contains(&word) || word == 0;
    let is_landing = |word: u64| (KERNEL_BASE..KERNEL_BASE + 0x4000).contains(&word);
    for _ in 0..100 {
        time::sleep(Duration::from_millis(1))?;
        for (n, slot) in slot_tops().into_iter().enumerate() {
            let [rip, rsp, rax, rcx, rdx, pkrs] = [40, 16, 64, 72, 80, 88].map(|offset| read(slot - offset));
            let leaves_here = n == 4;
            // An NMI may come over the kernel on its way out. Where that was is no secret either, nor its stack.
            let over_kernel = n == 0 && rip >= KERNEL_BASE && rsp >= KERNEL_BASE;
            let place = is_own(rip) && is_own(rsp) || leaves_here && is_landing(rip) && is_own(rsp);
            let place = place || over_kernel;
            if !place || (rax, rcx, rdx, pkrs & 0xffff_ffff) != (0, 0, 0, 0) {
                return Ok(Loot::Got(if place { rax | rcx | rdx | pkrs } else { rip }));
            }
        }
    }
    Ok(Loot::Nothing)
}

/// The same by a call that the entry code passes and by one that lends something, whose reply the kernel must look after.
fn registers_after_call(means: &Means) -> Outcome {
    let r15 = means.console.handle().raw();
    let passed = leap(&Registers { rip: GATE_CALL, r15, rbp: SECRET, ..Registers::default() }).unused;
    let unused = passed | call_that_lends(r15)?.unused;
    unless(unused != 0, unused)
}

/// Calls with no message that means anything, and lends a notification.
fn call_that_lends(r15: u64) -> Result<After, Error> {
    let note = Notification::create()?;
    let lend = Transfer { mode: TransferMode::Lend, read_only: false };
    let info = Info::new(0).and_then(|info| info.with_transfer(lend)).ok_or(Error::InvalidArgument)?;
    let (r11, r14) = (info.raw(), note.handle().raw());
    Ok(leap(&Registers { rip: GATE_CALL, r15, r11, r14, rbp: SECRET, ..Registers::default() }))
}

/// Short answers after long ones, one of which the kernel must look after: the rest of the buffer must be what it was.
fn long_buffer(means: &Means) -> Outcome {
    let here = 0_u64;
    let buffer = ipc_buffer_of((&raw const here).expose_provenance() as u64);
    for _ in 0..ROUNDS {
        means.supervisor.call(&Request::List { from: 0 }).map_err(|_| Error::Malformed)?;
    }
    (buffer..buffer + IPC_BUFFER_BYTES as u64).step_by(8).for_each(|address| act::write(address, 0));
    means.supervisor.call(&Request::List { from: u32::MAX }).map_err(|_| Error::Malformed)?;
    call_that_lends(means.supervisor.endpoint().handle().raw())?;
    let found = leftover(buffer, buffer + IPC_BUFFER_BYTES as u64);
    Ok(found.map_or(Loot::Nothing, Loot::Got))
}
