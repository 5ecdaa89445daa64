//! Too much of something. Afterwards the judge and everybody else must get what they need.

use super::{Crime, crimes};
use crate::abi::Error;

crimes! {
    "exhaust_heap": "allocate until nothing is left",
        Nothing => Refused(Error::QuotaExceeded), Binary [Exhaustion],
        "memory is charged to the domain's quota";
    "exhaust_threads": "start threads until nothing is left",
        Nothing => Refused(Error::QuotaExceeded), Binary [Exhaustion],
        "the same";
    "exhaust_regions": "make regions until nothing is left",
        Nothing => Refused(Error::QuotaExceeded), Binary [Exhaustion],
        "the same";
    "exhaust_large_region": "ask for regions of sizes up to the whole address space",
        Nothing => Refused(Error::QuotaExceeded), Binary [Exhaustion],
        "charged before it is made";
    "exhaust_capabilities": "derive capabilities until nothing is left",
        Nothing => Refused(Error::LimitReached), Binary [Exhaustion],
        "kernel objects are charged too";
    "exhaust_endpoints": "make endpoints until nothing is left",
        Nothing => Refused(Error::LimitReached), Binary [Exhaustion],
        "the same";
    "exhaust_notifications": "make notifications until nothing is left",
        Nothing => Refused(Error::LimitReached), Binary [Exhaustion],
        "the same";
    "exhaust_openings": "open a region again and again",
        Nothing => Refused(Error::LimitReached), Binary [Exhaustion],
        "256 openings a thread";
    "exhaust_activations": "serve an endpoint with more activations than there can be",
        Nothing => Refused(Error::InvalidArgument), Binary [Exhaustion],
        "64 an endpoint";
    "call_flood": "call a server from many threads without a pause",
        Nothing => Harmless, Binary [Exhaustion Messages],
        "callers wait in the order of their urgency",
        left "the kernel has one lock, which they take";
    "signal_flood": "signal without a pause",
        Nothing => Harmless, Binary [Exhaustion],
        "a notification is a word: nothing piles up";
    "fault_flood": "let a thread fault a thousand times, resumed each time",
        Nothing => Harmless, Binary [Exhaustion Records],
        "64 reports are kept; who asked to hear of a fault has it not logged";
}
