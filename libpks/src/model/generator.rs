//! Random steps: mostly such as can be done, now and then such as must be refused.
#![forbid(unsafe_code)]

use super::{Access, After, Give, Model, Says, Step};
use alloc::vec::Vec;
use fastrand::Rng;

/// How many there may be at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads of a domain.
    pub threads: usize,
    /// Regions.
    pub regions: usize,
    /// Capabilities.
    pub caps: usize,
    /// Keys out of the pool.
    pub keys: usize,
}

/// What is used by the tests of this project.
pub const LIMITS: Limits = Limits { threads: 3, regions: 7, caps: 40, keys: 2 };

/// The next step. It depends on nothing but the generator's state and the model's.
pub fn next(rng: &mut Rng, model: &Model, limits: &Limits) -> Step {
    loop {
        if let Some(step) = draw(rng, model, limits) {
            return step;
        }
    }
}

/// One attempt; `None` if it came to something that there is none of.
fn draw(rng: &mut Rng, model: &Model, limits: &Limits) -> Option<Step> {
    match rng.u32(0..100) {
        0..6 => spawn(rng, model, limits),
        6..7 => Some(Step::Kill { thread: thread(rng, model)? }),
        7..11 => Some(Step::Migrate { thread: thread(rng, model)?, cpu: rng.u32(..) }),
        11..17 => create(rng, model, limits),
        17..19 => (held_keys(model).count() < limits.keys).then_some(Step::TakeKey),
        19..20 => Some(Step::DropKey { key: rng.choice(held_keys(model).collect::<Vec<_>>())? }),
        20..23 => rekey(rng, model),
        23..39 => open(rng, model),
        39..45 => close(rng, model),
        45..52 => Some(Step::Global { cap: cap(rng, model, |_| true)?, access: access(rng) }),
        52..58 => mint(rng, model, limits),
        58..61 => Some(Step::Delete { cap: cap(rng, model, |_| true)? }),
        61..65 => Some(Step::Revoke { cap: cap(rng, model, |_| true)? }),
        65..75 => give(rng, model, limits),
        75..80 => lend(rng, model, limits),
        80..98 => touch(rng, model),
        98..99 => rng.bool().then(|| Step::Restart { domain: rng.usize(1..model.domains.len()) }),
        _ => Some(Step::Nmi { cpu: rng.u32(..) }),
    }
}

fn live_caps(model: &Model) -> usize {
    model.caps.iter().filter(|cap| cap.alive).count()
}

fn held_keys(model: &Model) -> impl Iterator<Item = usize> {
    (0..model.keys.len()).filter(|&key| model.keys[key].held)
}

/// A thread that is there.
fn thread(rng: &mut Rng, model: &Model) -> Option<usize> {
    rng.choice((0..model.threads.len()).filter(|&thread| model.threads[thread].alive).collect::<Vec<_>>())
}

/// A capability, in one of twenty draws one of the last that have gone.
fn cap(rng: &mut Rng, model: &Model, wanted_fn: impl Fn(usize) -> bool) -> Option<usize> {
    let gone = rng.u32(0..20) == 0;
    let first = if gone { model.caps.len().saturating_sub(60) } else { 0 };
    let fits = |cap: &usize| model.caps[*cap].alive != gone && wanted_fn(*cap);
    rng.choice((first..model.caps.len()).filter(fits).collect::<Vec<_>>())
}

fn access(rng: &mut Rng) -> Access {
    *rng.choice(&[Access::Nothing, Access::Read, Access::Write]).unwrap_or(&Access::Read)
}

fn spawn(rng: &mut Rng, model: &Model, limits: &Limits) -> Option<Step> {
    let domain = rng.usize(..model.domains.len());
    let threads = model.threads.iter().filter(|thread| thread.alive && thread.domain == domain).count();
    (threads < limits.threads).then_some(Step::Spawn { domain })
}

fn create(rng: &mut Rng, model: &Model, limits: &Limits) -> Option<Step> {
    let regions = model.regions.iter().filter(|region| region.alive).count();
    if regions >= limits.regions || live_caps(model) >= limits.caps {
        return None;
    }
    let domain = if rng.bool() { 0 } else { rng.usize(..model.domains.len()) };
    let pinned = domain == 0 && rng.u32(0..5) == 0;
    let key = if pinned { rng.choice(held_keys(model).collect::<Vec<_>>()) } else { None };
    Some(Step::Create { domain, pages: rng.u64(1..=3), key })
}

fn rekey(rng: &mut Rng, model: &Model) -> Option<Step> {
    let key = rng.choice(held_keys(model).collect::<Vec<_>>())?;
    Some(Step::Rekey { cap: cap(rng, model, |cap| model.caps[cap].domain == 0)?, key })
}

fn open(rng: &mut Rng, model: &Model) -> Option<Step> {
    let thread = thread(rng, model)?;
    if model.threads[thread].openings.len() >= 12 {
        return None;
    }
    let cap = cap(rng, model, |cap| model.caps[cap].domain == model.threads[thread].domain)?;
    let access = if rng.bool() { Access::Read } else { Access::Write };
    Some(Step::Open { thread, cap, access })
}

fn close(rng: &mut Rng, model: &Model) -> Option<Step> {
    let thread = thread(rng, model)?;
    let openings = model.threads[thread].openings.iter().filter(|opening| opening.guarded).count();
    (openings > 0).then(|| Step::Close { thread, nth: rng.usize(..openings) })
}

/// Mostly everything, so that long derivations come about.
fn says(rng: &mut Rng) -> Says {
    let mut bit = || rng.u32(0..5) > 0;
    Says { read: bit() || bit(), write: bit(), grant: bit() || bit(), manage: bit() }
}

fn mint(rng: &mut Rng, model: &Model, limits: &Limits) -> Option<Step> {
    if live_caps(model) >= limits.caps {
        return None;
    }
    let cap = cap(rng, model, |_| true)?;
    let own = model.caps[cap].says;
    let drawn = says(rng);
    let says = if rng.u32(0..4) == 0 {
        drawn
    } else {
        Says {
            read: drawn.read && own.read,
            write: drawn.write && own.write,
            grant: drawn.grant && own.grant,
            manage: drawn.manage && own.manage,
        }
    };
    Some(Step::Mint { cap, says })
}

fn give(rng: &mut Rng, model: &Model, limits: &Limits) -> Option<Step> {
    let how = *rng.choice(&[Give::Copy, Give::Copy, Give::ReadOnly, Give::Move])?;
    if live_caps(model) >= limits.caps && how != Give::Move {
        return None;
    }
    let cap = cap(rng, model, |_| true)?;
    let to = if model.caps[cap].domain == 0 { rng.usize(1..model.domains.len()) } else { 0 };
    Some(Step::Give { cap, to, how })
}

fn lend(rng: &mut Rng, model: &Model, limits: &Limits) -> Option<Step> {
    if live_caps(model) >= limits.caps {
        return None;
    }
    let cap = cap(rng, model, |cap| model.caps[cap].domain == 0)?;
    let to = rng.usize(1..model.domains.len());
    let access = if rng.bool() { Access::Read } else { Access::Write };
    Some(Step::Lend { cap, to, read_only: rng.u32(0..4) == 0, access, global: rng.u32(0..3) == 0 })
}

fn touch(rng: &mut Rng, model: &Model) -> Option<Step> {
    let thread = thread(rng, model)?;
    let gone = rng.u32(0..30) == 0;
    let first = if gone { model.regions.len().saturating_sub(10) } else { 0 };
    let fits = |region: &usize| model.regions[*region].alive != gone;
    let region = rng.choice((first..model.regions.len()).filter(fits).collect::<Vec<_>>())?;
    let write = rng.bool();
    let wanted = if write { Access::Write } else { Access::Read };
    let mends = |cap: &usize| {
        let books = &model.caps[*cap];
        let own = books.alive && books.region == region && books.domain == model.threads[thread].domain;
        own && books.says.access() >= wanted && !model.regions[region].closed
    };
    let mending = rng.choice((0..model.caps.len()).filter(mends).collect::<Vec<_>>());
    let after = mending.map_or(After::Kill, After::Mend);
    Some(Step::Touch { thread, region, write, after })
}
