//! Handles, kinds, rights, badges.

use super::{Crime, crimes};
use crate::abi::Error;

crimes! {
    "forged_handle": "use handles that it was never given: single bits, noise",
        Nothing => Refused(Error::NoSuchCapability), Binary [Handles],
        "a handle is looked up in the space of who uses it";
    "guess_handles": "use every handle of the first 512 places and 8 generations of each",
        Nothing => Refused(Error::NoSuchCapability), Binary [Handles],
        "the same";
    "stale_handle": "use the handle of a notification whose place another one has taken since",
        Nothing => Refused(Error::NoSuchCapability), Binary [Handles Reuse],
        "a place has a generation";
    "wrong_object": "use a capability for something else than it names",
        Nothing => Refused(Error::WrongObject), Binary [Handles Deputy],
        "every operation says which kind it needs";
    "widen_rights": "derive a capability with more rights than it has",
        Nothing => Refused(Error::RightsExceeded), Binary [Handles],
        "rights only shrink";
    "use_without_right": "wait where it may only signal, serve where it may only call",
        Nothing => Refused(Error::MissingRights), Binary [Handles],
        "every operation says which right it needs";
    "another_badge": "give its capability to a server the badge of another client, or of the server itself",
        Nothing => Refused(Error::AlreadyBadged), Binary [Handles Messages],
        "a badge is set once";
    "hand_on_without_right": "pass on a capability that it may not give away",
        Nothing => Refused(Error::MissingRights), Binary [Handles],
        "that needs the right to grant";
    "hand_on_a_loan": "derive a lasting capability from one that was lent",
        LentRegion => Refused(Error::MissingRights), Binary [Handles StaleRights],
        "what is on loan is not minted";
    "write_read_only_region": "open for writing what is for reading",
        ReadOnlyRegion => Refused(Error::RightsExceeded), Binary [Handles],
        "the capability says how far";
    "store_to_read_only_region": "open for reading, and write",
        ReadOnlyRegion => EndsThere(crate::abi::fault::FaultKind::ProtectionKey), Binary [Handles Wall],
        "the word lets the thread read, no more";
    "store_without_opening": "write a region that it holds and has not opened",
        SharedRegion => EndsThere(crate::abi::fault::FaultKind::ProtectionKey), Binary [Handles Wall],
        "holding is not opening";
    "ports_beyond_range": "read and write ports beside those that it has, and across their end",
        Nothing => Refused(Error::InvalidArgument), Binary [Deputy Device],
        "the kernel does the access, after it has looked at port and width",
        left "IN and OUT themselves are not held";
    "devices_without_capability": "use ports, lines, power, boot modules, keys with handles that name none",
        Nothing => Refused(Error::NoSuchCapability), Binary [Deputy Device Handles],
        "each is a capability";
    "supervise_without_power": "have the supervisor stop and restart every server",
        Nothing => Harmless, Binary [Deputy Messages],
        "the supervisor looks at the badge, and the manifest at who may";
    "urgent_thread": "start a thread that is more urgent than its domain may be",
        Nothing => Refused(Error::InvalidArgument), Binary [Exhaustion],
        "the manifest gives the highest";
    "no_such_cpu": "bind a thread to CPUs that do not exist",
        Nothing => Refused(Error::InvalidArgument), Binary [Handles],
        "the number is looked at";
}
