//! Messages to kernel and servers.

use super::{Crime, crimes};
use crate::abi::Error;

crimes! {
    "wrong_syscall": "ask for operations that do not exist",
        Nothing => Refused(Error::NoSuchSyscall), Binary [Messages],
        "the number is looked at";
    "oversized_message": "call with sizes that no message has",
        Nothing => Refused(Error::BadMessage), Binary [Messages],
        "the information word is checked before anything else";
    "garbage_message": "send noise to a server",
        Nothing => Refused(Error::Malformed), Binary [Messages],
        "the runtime decodes before the server sees it";
    "lying_lengths": "send messages whose inner lengths lie: more than there is, less, beyond all bounds",
        Nothing => Harmless, Binary [Messages],
        "bytes are copied, then decoded; a length has a bound";
    "console_requests": "send the console each of its requests with the worst content",
        Nothing => Harmless, Binary [Messages],
        "it refuses what is not for a client, by badge",
        left "what is written there a terminal obeys: escape sequences are the client's right";
    "supervisor_requests": "send the supervisor each of its requests with the worst content",
        Nothing => Harmless, Binary [Messages],
        "it refuses what is not for a client, by badge";
    "false_capability": "send handles that it does not hold along with a message",
        Nothing => Refused(Error::NoSuchCapability), Binary [Messages Handles],
        "what can be refused is refused before the first one goes over";
    "same_capability_twice": "hand the same capability over twice in one message",
        Nothing => Refused(Error::BadMessage), Binary [Messages Handles],
        "the same";
    "reply_to_nobody": "go through the reply gate without a call",
        Nothing => Refused(Error::WrongState), Binary [Messages Gate],
        "the kernel knows which call a thread is in";
    "call_itself": "call its own endpoint from inside a call to it",
        Nothing => Refused(Error::WouldDeadlock), Binary [Messages Exhaustion],
        "who waits for himself is told";
    "change_message_meanwhile": "change the bytes of a message from another thread while the kernel copies it",
        Nothing => Harmless, Binary [Messages],
        "copied once, then checked";
    "change_region_meanwhile": "change a length in shared memory while the other side reads by it",
        SharedRegion => Harmless, Binary [Messages],
        "there are no references into a region: bytes are copied, then checked";
}
