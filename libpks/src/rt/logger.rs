//! The `log` facade on top of the kernel's log.

use super::handle::Capability;
use super::system::KernelLog;
use super::text::cut;
use crate::cap::Handle;
use core::sync::atomic::{AtomicU64, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The handle of the domain's KernelLog capability; 0 if it has none.
struct KernelLogger(AtomicU64);

static LOGGER: KernelLogger = KernelLogger(AtomicU64::new(0));

/// Sends the records of `log` to the kernel's log from now on, those of `level` and above.
pub(super) fn install(log: KernelLog, level: LevelFilter) {
    LOGGER.0.store(log.handle().raw(), Ordering::Relaxed);
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for KernelLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    /// The kernel adds time and domain; errors and warnings are marked. What is too long is cut.
    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mark = match record.level() {
            Level::Error => "ERROR ",
            Level::Warn => "warning: ",
            _ => "",
        };
        let line = cut::<240>(format_args!("{mark}{}", record.args()));
        // Nobody is left to tell if the log itself fails.
        let _ = KernelLog::from_handle(Handle::from_raw(self.0.load(Ordering::Relaxed))).write(&line);
    }

    fn flush(&self) {}
}
