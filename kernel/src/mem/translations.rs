//! Records what the CPUs may translate, for a model on the host to check (docs/testing-in-depth.md, *Translations*).
//! Only in a kernel with the feature `log-translations`; in any other these functions do what they are given to do and
//! nothing more.

use super::{DIRECT_MAP, DIRECT_MAP_BYTES, PAGE, direct};
use crate::arch::{insn, window};
use crate::boot::MAX_CPUS;
use core::sync::atomic::{AtomicBool, Ordering};
use libpks::frames::FrameBitmap;
use libpks::pkey::{Pkey, Pkrs, Rights};
use libpks::sharing::ViewKeys;
use libpks::translations::{ANNOUNCEMENT, Crossings, Event, HEADER_BYTES, Header, RECORD_BYTES, Record};
use spin::Mutex;

/// Whether this kernel records.
pub(crate) const ON: bool = cfg!(feature = "log-translations");
/// The most views of which keys are recorded.
const MAX_VIEWS: usize = 64;
/// Bytes of the log: eight million records.
const LOG_BYTES: u64 = HEADER_BYTES + (256 << 20);

struct Log {
    /// Where the header lies; none before [`start`].
    at: Option<u64>,
    header: Header,
    crossings: Crossings<MAX_CPUS>,
    /// Keys that are handed out, by view: bit k is key k. Views beyond are not recorded; a test makes no so many.
    keys: [u16; MAX_VIEWS],
}

/// Taken last of all locks. What changes a translation is done while it is held, so that no other record comes between.
static LOG: Mutex<Log> = Mutex::new(Log {
    at: None,
    header: Header { capacity: (LOG_BYTES - HEADER_BYTES) / RECORD_BYTES, written: 0, lost: 0 },
    crossings: Crossings::new(),
    keys: [0; MAX_VIEWS],
});
/// Whether CPUs have windows, and so numbers. Before then they are on the loader's page tables, which are not recorded.
static WINDOWS: AtomicBool = AtomicBool::new(false);

/// Takes the memory of the log, before the first page table is made.
///
/// # Errors
/// [`super::NoFrames`] if there is too little in a row.
pub(super) fn start(frames: &mut FrameBitmap<'_>, levels: u8) -> Result<(), super::NoFrames> {
    if !ON {
        return Ok(());
    }
    let first = frames.allocate_contiguous(LOG_BYTES / PAGE, 1, None).ok_or(super::NoFrames)?;
    LOG.lock().at = Some(first * PAGE);
    step(|| Some(Event::Started { levels, direct_map: DIRECT_MAP, bytes: DIRECT_MAP_BYTES }));
    Ok(())
}

/// Says where the log is.
pub(crate) fn announce() {
    if let Some(at) = LOG.lock().at.filter(|_| ON) {
        log::info!(target: "mem", "{ANNOUNCEMENT}{at:#x}");
    }
}

/// Does something and records what it did, as one step.
pub(crate) fn step(do_fn: impl FnOnce() -> Option<Event>) {
    if !ON {
        do_fn();
        return;
    }
    let mut log = LOG.lock();
    if let Some(event) = do_fn() {
        log.append(event);
    }
}

/// The CPU that this runs on, as records name it, once it has a number. Always none where nothing is recorded.
pub(crate) fn this_cpu() -> Option<u8> {
    (ON && WINDOWS.load(Ordering::Relaxed)).then(|| window::cpu() as u8)
}

/// This CPU has loaded its root, and has a window from now on.
pub(crate) fn root_loaded() {
    if ON {
        WINDOWS.store(true, Ordering::Relaxed);
        step(|| {
            Some(Event::RootLoaded { cpu: this_cpu()?, root: insn::read_cr3() & super::paging::ADDRESS })
        });
    }
}

/// This CPU comes into the kernel.
pub(crate) fn entered() {
    if let Some(cpu) = this_cpu() {
        LOG.lock().crossings.enter(usize::from(cpu));
    }
}

/// This CPU leaves for a domain, under this rights word.
pub(crate) fn leaving(word: Pkrs) {
    if let Some(cpu) = this_cpu() {
        let open = Pkey::all().filter(|&key| word.rights(key) != Rights::NoAccess);
        let opened = open.fold(0, |keys, key| keys | 1 << key.index());
        LOG.lock().crossings.leave(usize::from(cpu), opened);
    }
}

/// There is a view more, with these roots.
pub(crate) fn note_view(view: u32, roots: impl Iterator<Item = u64>) {
    if ON {
        roots.for_each(|root| step(|| Some(Event::ViewMade { view, root })));
    }
}

/// Keys of a view may have been handed out or given back.
pub(crate) fn note_keys(keys: &ViewKeys) {
    if !ON {
        return;
    }
    let (mut log, view) = (LOG.lock(), keys.number());
    let now = keys.allocated().fold(0, |keys, key| keys | 1 << key.index());
    let Some(before) = log.keys.get_mut(view as usize) else { return };
    let before = core::mem::replace(before, now);
    for key in (0..16).filter(|key| (before ^ now) & 1 << key != 0) {
        let taken = now & 1 << key != 0;
        log.append(if taken { Event::KeyTaken { view, key } } else { Event::KeyFreed { view, key } });
    }
}

impl Log {
    /// Writes a record, and before it how CPUs have come and gone since the last.
    fn append(&mut self, event: Event) {
        let Some(at) = self.at else { return };
        let header = &mut self.header;
        let mut write = |event| {
            if header.written == header.capacity {
                header.lost += 1;
                return;
            }
            let place = at + HEADER_BYTES + header.written * RECORD_BYTES;
            put(place, Record { number: header.written, event }.encode());
            header.written += 1;
        };
        self.crossings.tell(&mut write);
        write(event);
        put(at, self.header.encode());
    }
}

fn put<const N: usize>(at: u64, words: [u64; N]) {
    for (n, word) in words.into_iter().enumerate() {
        direct::write_word(at + n as u64 * 8, word);
    }
}
