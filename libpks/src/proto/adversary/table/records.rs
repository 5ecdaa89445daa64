//! Reports and the log. The judge reads the log after every crime.

use super::{Crime, crimes};
use crate::abi::Error;
use crate::abi::fault::FaultKind;

crimes! {
    "forge_log_lines": "write lines to the log that look like the kernel's, behind carriage returns, escapes, ends of line",
        Nothing => Harmless, Binary [Records],
        "the kernel puts its own stamp before each line, and blanks for control characters";
    "forge_panic_message": "panic with such a text",
        Nothing => Ends(FaultKind::Panic), Binary [Records],
        "the same";
    "log_without_right": "read the log, which it may only write",
        Nothing => Refused(Error::MissingRights), Binary [Records Handles],
        "reading the log is a right of its own";
    "log_no_text": "write bytes to the log that are no text",
        Nothing => Refused(Error::Malformed), Binary [Records],
        "the log takes UTF-8 alone";
    "log_flood": "write to the log without a pause",
        Nothing => Harmless, Binary [Records Exhaustion],
        "the log is a ring",
        left "older lines are lost, and the console says how many";
    "backtrace_of_nonsense": "fault with RBP in another's stack, so that the report's walk goes there",
        Caller => Ends(FaultKind::Exception(6)), Binary [Records Deputy],
        "the walk follows frame pointers inside the domain's own slot alone, 12 steps at the most";
    "report_of_what_was_before": "fail a check of a gate, and read in the report what the kernel last kept of the thread",
        Nothing => Harmless, Binary [Records Gate],
        "no registers are told if the entry code has let the thread pass since: those in the books may be of a server from which it came home";
}
