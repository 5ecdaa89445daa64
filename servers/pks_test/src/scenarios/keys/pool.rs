//! P18, P20: keys that are changed, used up and given back.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libpks::abi::Error;
use libpks::abi::layout::PAGE;
use libpks::pkey::{Access, Pkey, Pkrs, Rights};
use libpks::proto::pks_test::Seen;
use libpks::rt::text::cut;
use libpks::rt::{Capability, Key, Region};

use crate::bench::{Bound, Probed, Target, Tools};
use crate::scenarios::access::matrix::all_targets;
use crate::subject::{Subject, access, open, wait_for};
use libpks::proto::pks_test::checks::{Checks, Run};

/// Accesses that show that a thread gets on.
const PROGRESS: u64 = 100;

/// P18: a page with another key obeys the new key, on every CPU and for a thread that has it open.
pub(in crate::scenarios) fn rekey(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let (target, spare) = (Target::new(tools)?, Target::new(tools)?);
    let (old, new, address) = (target.key, spare.key, target.address());
    target.put(0, 1)?;
    let (only_old, only_new) =
        (Pkrs::DEFAULT.with(old, Rights::ReadWrite), Pkrs::DEFAULT.with(new, Rights::ReadWrite));
    let cpus = tools.cpus()?;
    let look = |word: Pkrs, cpu| {
        let inside = *tools;
        Subject::start(tools, Some(cpu), move |_| inside.probe(address, word, Access::Read, 0))?.finish()
    };
    for cpu in 0..cpus {
        // This also puts the old key into the CPU's TLB.
        checks.same(format_args!("CPU {cpu}, old key before"), look(only_old, cpu)?, Probed::Done(1))?;
    }
    {
        let _bound = Bound::to(0)?;
        let _held = open(*target.region, Rights::ReadWrite)?;
        target.region.rekey(spare.capability())?;
        checks.same(format_args!("key in the page table"), tools.leaf(address)?.key(), new)?;
        let word = tools.base_word()?.with(new, Rights::ReadWrite);
        checks.same(format_args!("the word of who has it open"), tools.words(0)?.interrupted, word)?;
        checks.same(format_args!("a write by who has it open"), target.raw.write_u64(0, 2), Ok(()))?;
    }
    while_running(tools, checks, &target, &spare, cpus.saturating_sub(1))?;
    for cpu in 0..cpus {
        let fault = Probed::Faulted { code: 0x21, cr2: address };
        checks.same(format_args!("CPU {cpu}, old key after"), look(only_old, cpu)?, fault)?;
        checks.same(format_args!("CPU {cpu}, new key after"), look(only_new, cpu)?, Probed::Done(2))?;
    }
    Ok(cut(format_args!("from key {old} to key {new} on {cpus} CPUs")))
}

/// The key changes, there and back, under two threads that run on the last CPU without entering the kernel: who has the
/// page open does not notice, who has the new key's other page open gains nothing.
fn while_running(tools: &Tools, checks: &Checks, target: &Target, spare: &Target, cpu: u32) -> Run {
    let _bound = Bound::to(0)?;
    let region = Region::create(PAGE, Some(target.capability()))?;
    let raw = region.unguarded()?;
    let (made, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, ends, inside, held) = (Arc::clone(&made), Arc::clone(&stop), *tools, *region);
    let subject = Subject::start(tools, Some(cpu), move |_| {
        let _held = open(held, Rights::ReadWrite)?;
        while !ends.load(Ordering::Acquire) {
            access(&raw, 8, Access::Write, 1)?;
            count.fetch_add(1, Ordering::Release);
        }
        Ok(inside.words(cpu)?.interrupted)
    })?;
    let gets_on = |key: Pkey| -> Run {
        let mark = made.load(Ordering::Acquire);
        wait_for(checks, format_args!("a thread on CPU {cpu} gets on under key {key}"), || {
            Ok(made.load(Ordering::Acquire) > mark + PROGRESS)
        })
    };
    gets_on(target.key)?;
    for (key, now) in [(spare, spare.key), (target, target.key), (spare, spare.key)] {
        region.rekey(key.capability())?;
        checks.same(format_args!("key in the page table"), tools.leaf(raw.address())?.key(), now)?;
        gets_on(now)?;
    }
    stop.store(true, Ordering::Release);
    let word = tools.base_word()?.with(spare.key, Rights::ReadWrite);
    checks.same(format_args!("the thread's word in the end"), subject.finish()?, word)?;
    // Who has only the key open that it had before is kept out now.
    let only_old = Pkrs::DEFAULT.with(target.key, Rights::ReadWrite);
    let probed = tools.probe(raw.address(), only_old, Access::Read, 0)?;
    checks.same(
        format_args!("the old key in the end"),
        probed,
        Probed::Faulted { code: 0x21, cr2: raw.address() },
    )
}

/// P20: more keys than there are gives a typed error, and all come back.
pub(in crate::scenarios) fn exhaustion(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let free = || tools.inspect.system().map(|system| system.keys_free);
    let before = free()?;
    for round in 0..3 {
        let targets = all_targets(tools)?;
        checks.same(format_args!("round {round}: keys to be had"), targets.len(), usize::from(before))?;
        checks.same(
            format_args!("round {round}: the pool"),
            tools.keys.allocate().map(drop),
            Err(Error::KeysExhausted),
        )?;
        drop(targets);
        checks.same(format_args!("round {round}: keys that came back"), free()?, before)?;
    }
    misuse(tools, checks)?;
    checks.same(format_args!("keys in the end"), free()?, before)?;
    Ok(cut(format_args!("{before} keys, three times; wrong, stale and busy keys are refused")))
}

/// What is wrong with a key or a region is said by a typed error, and nothing is taken or lost.
fn misuse(tools: &Tools, checks: &Checks) -> Run {
    let refused = |what: &str, came: Result<(), Error>, expected: Error| {
        checks.same(format_args!("{what}"), came, Err(expected))
    };
    let make = |bytes, key| Region::create(bytes, key).map(drop);
    let target = Target::new(tools)?;
    let free = tools.inspect.system()?.keys_free;
    refused("a region of no bytes", make(0, None), Error::InvalidArgument)?;
    refused("a region as large as all", make(u64::MAX, None), Error::InvalidArgument)?;
    refused("no bytes under a key", make(0, Some(target.capability())), Error::InvalidArgument)?;
    let not_a_key = Key::from_handle(target.region.handle());
    refused("a region's capability for a key's", make(8, Some(not_a_key)), Error::WrongObject)?;
    let rekeyed = target.region.rekey(not_a_key);
    refused("another key by a capability that is none", rekeyed, Error::WrongObject)?;
    let stale = {
        let (key, _) = tools.keys.allocate()?;
        *key
    };
    refused("a region under a key that went back", make(8, Some(stale)), Error::NoSuchCapability)?;
    refused("a key that is given back twice", stale.delete(), Error::NoSuchCapability)?;
    checks.same(format_args!("keys after what was refused"), tools.inspect.system()?.keys_free, free)?;
    // A key stays taken while a region is under it, also without a capability to the key.
    let (key, _) = tools.keys.allocate()?;
    let region = Region::create(8, Some(*key))?;
    drop(key);
    checks.same(format_args!("keys while a region has one"), tools.inspect.system()?.keys_free, free - 1)?;
    drop(region);
    checks.same(format_args!("keys after the region"), tools.inspect.system()?.keys_free, free)
}
