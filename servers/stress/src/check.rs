//! The comparison of everything with the model.

use alloc::vec::Vec;

use libpks::model::{Access, Model, Step, View};

use crate::run::{Run, Stage, wrong};

/// A word in which key 0 is open and every other closed.
const CLOSED_WORD: u32 = 0x5555_5554;
/// The kernel's key: that of a region that is closed.
const KERNEL_KEY: u8 = 1;

/// The keys of all regions, from which the words follow.
pub(crate) struct Words {
    keys: Vec<Option<u8>>,
}

/// The key of the page at an address.
pub(crate) fn page_key(stage: &Stage, address: u64) -> Run<Option<u8>> {
    stage.tools.page_key(address).map_err(|error| alloc::format!("no key of {address:#x}: {error}"))
}

impl Words {
    /// Asks for the keys.
    pub(crate) fn of(stage: &Stage) -> Run<Self> {
        let key = |region: usize| {
            // The address of a region that has gone may be another's by now.
            if stage.model.regions[region].alive { page_key(stage, stage.regions[region]) } else { Ok(None) }
        };
        Ok(Self { keys: (0..stage.regions.len()).map(key).collect::<Result<_, _>>()? })
    }

    /// The word of a thread by the model.
    pub(crate) fn thread(&self, stage: &Stage, view: &View<'_>, thread: usize) -> u32 {
        let own = stage.domains[stage.model.threads[thread].domain].1;
        let mut word = set(CLOSED_WORD, own, Access::Write);
        for (region, key) in self.keys.iter().enumerate() {
            if let Some(key) = key.filter(|key| *key != KERNEL_KEY && *key != own) {
                word = set(word, key, view.may(thread, region));
            }
        }
        word
    }
}

/// A word with the two bits of a key set: bit 0 forbids all, bit 1 writing (Intel SDM vol. 3A, 4.6.2).
const fn set(word: u32, key: u8, access: Access) -> u32 {
    let bits = match access {
        Access::Nothing => 1,
        Access::Read => 2,
        Access::Write => 0,
    };
    word & !(3 << (2 * key)) | bits << (2 * key)
}

/// Takes in which regions are closed, if that can be explained.
pub(crate) fn closed(stage: &mut Stage, before: &Model, step: &Step) -> Run {
    let words = Words::of(stage)?;
    let closed: Vec<bool> = words.keys.iter().map(|key| *key == Some(KERNEL_KEY)).collect();
    let known = stage.model.regions.iter().filter(|region| region.closed).count();
    if let Err(region) = stage.model.observe_closed(before, step, &closed) {
        let left = (before.keys_left(), stage.model.keys_left());
        return wrong(format_args!(
            "region {region} closed or open without reason, keys left {left:?}, {closed:?}"
        ));
    }
    let now = stage.model.regions.iter().filter(|region| region.closed).count();
    stage.tally.closed += now.saturating_sub(known) as u32;
    Ok(())
}

/// Every region's key and every thread's word.
pub(crate) fn all(stage: &mut Stage) -> Run {
    let words = Words::of(stage)?;
    keys(stage, &words)?;
    let alive = |thread: &usize| stage.model.threads[*thread].alive;
    let threads: Vec<usize> = (0..stage.threads.len()).filter(alive).collect();
    let view = View::of(&stage.model);
    let mut seen = 0;
    for info in stage.tools.inspect.threads() {
        let info = info.map_err(|error| alloc::format!("no threads: {error}"))?;
        if let Some(&thread) = threads.iter().find(|&&thread| stage.threads[thread] == info.id) {
            seen += 1;
            let expected = words.thread(stage, &view, thread);
            if info.pkrs != expected {
                let keys = &words.keys;
                return wrong(format_args!(
                    "thread {thread} has word {:#010x} instead of {expected:#010x}; keys of regions {keys:?}, model {:?}",
                    info.pkrs,
                    (0..keys.len()).map(|region| view.may(thread, region)).collect::<Vec<_>>()
                ));
            }
        }
    }
    stage.tally.checks += threads.len() as u64;
    if seen == threads.len() {
        Ok(())
    } else {
        wrong(format_args!("{seen} of {} threads live", threads.len()))
    }
}

/// Two regions are under the same key if and only if they are of the same class, and one that nobody holds is under none.
fn keys(stage: &mut Stage, words: &Words) -> Run {
    let model = &stage.model;
    let unseen = |region: &usize| model.regions[*region].alive && !model.is_shown(*region);
    if let Some(region) = (0..model.regions.len()).filter(unseen).find(|&region| words.keys[region].is_some())
    {
        return wrong(format_args!("region {region} has key {:?}, and nobody holds it", words.keys[region]));
    }
    let regions: Vec<usize> = (0..model.regions.len()).filter(|&region| model.is_open(region)).collect();
    let classes = View::of(model).classes;
    let mut checks = 0;
    for (n, &region) in regions.iter().enumerate() {
        let (key, class) = (words.keys[region], &classes[region]);
        let others = regions[..n].iter().map(|&other| (words.keys[other], classes[other].clone()));
        let own = stage
            .domains
            .iter()
            .enumerate()
            .map(|(domain, (_, key))| (Some(*key), Some(Model::own_class(domain))));
        for (other_key, other_class) in others.chain(own) {
            checks += 1;
            if (key == other_key) != (*class == other_class) {
                return wrong(format_args!(
                    "region {region} of {class:?} has key {key:?}, what is of {other_class:?} has {other_key:?}"
                ));
            }
        }
        let pinned = model.regions[region].pin.map(|pin| stage.keys[pin].1);
        if key.is_none() || pinned.is_some_and(|pinned| key != Some(pinned)) {
            return wrong(format_args!("region {region} has key {key:?} instead of {pinned:?}"));
        }
    }
    stage.tally.checks += checks;
    Ok(())
}
