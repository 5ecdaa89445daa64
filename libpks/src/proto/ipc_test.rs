//! The scenarios of `ipc_test`: the rules of calls, capabilities and domains. It speaks as
//! [`pks_test`](super::pks_test) does; only the scenarios are others.
#![forbid(unsafe_code)]

use super::Protocol;
use super::pks_test::{Reply, Request, Scenario};

/// The domain that runs the scenarios.
pub const SERVER: &str = "ipc_test";

macro_rules! scenarios {
    ($($name:literal, $needs_keys:literal, $least:literal, $about:literal;)+) => {
        /// All scenarios, in the order in which they are run.
        pub const SCENARIOS: &[Scenario] =
            &[$(Scenario { name: $name, about: $about, needs_keys: $needs_keys, least_checks: $least }),+];
    };
}

scenarios! {
    "call_reply_registers", false, 2, "a short message and its reply go in registers";
    "call_reply_4096_bytes", false, 2, "a message and a reply that fill the IPC buffer";
    "badge_identifies", false, 5, "a server sees the badge that was minted, which nobody can choose or change";
    "transfer_copy", false, 5, "a copied capability has the sender's rights at most; the sender keeps its own";
    "transfer_move", false, 5, "a capability that is handed over leaves its sender, and comes back in a reply";
    "transfer_lend", false, 6, "a lent capability cannot be copied or kept, and is gone with the reply";
    "transfer_refused", false, 9, "a message that is refused changes nothing: named twice, lent in a reply, no right";
    "lent_region_closed_after_reply", true, 4, "what was opened of a lent region stays closed, also when it is lent again";
    "timeout_before_accept", false, 3, "a call that is not accepted in time fails, and never reaches the server";
    "no_timeout_after_accept", false, 2, "a call that was accepted outlives its deadline";
    "callee_dies_mid_call", false, 3, "the caller learns that the server died in the middle of its request";
    "callee_dies_queued_callers_stay", false, 7, "who is not accepted yet waits for the server's successor";
    "queue_passes_revoked_caller", false, 4, "a queued caller whose capability went does not stop those behind it";
    "middle_dies", false, 6, "A calls B calls C and B dies: A goes on at once, C comes to its end, B's reply is dropped";
    "caller_dies_in_server", false, 4, "a caller dies: the server is not disturbed and keeps what was lent";
    "fault_in_call_is_the_servers", false, 3, "a fault in a server ends the server, whatever its caller asked to hear of";
    "callers_thread_stays_callers", false, 2, "a server cannot take the thread that calls it";
    "last_capability_on_loan", false, 4, "an endpoint goes with the loan that was its last capability";
    "domain_ends_itself", false, 4, "a domain stops itself, or deletes the last capability to itself, within a call";
    "would_deadlock", false, 2, "a call to a busy server on one's own chain is refused";
    "deadlock", false, 3, "a call that would close a cycle of waiting threads is refused";
    "too_deep", false, 2, "a chain of calls is eight deep at most";
    "urgent_waiter_lends_priority", false, 3, "a server runs at the priority of the most urgent who waits for it";
    "forged_handle", false, 100, "handles that were made up, of another kind, or gone are refused by every operation";
    "garbage_message", false, 30, "reserved bits, unknown operations, bytes that are no message";
    "oversized_message", false, 10, "messages that are larger than the buffer";
    "hostile_sizes", false, 40, "sizes and addresses near the end of 64 bits are refused by every operation";
    "revoke_reaches_running_thread", true, 5, "a thread that runs without a pause loses what is revoked";
    "revoke_reaches_parked_thread", true, 4, "a thread that waits has lost what was revoked when it wakes";
    "revoke_reaches_call_chain", true, 4, "an activation in the middle of a chain has lost it when the call returns";
    "rekey_under_running_thread", true, 3, "pages change their key under a thread that has them open, and it does not notice";
    "revoke_of_many", false, 3, "a revoke of more than one step takes them all";
    "revoke_wakes_waiter", false, 2, "a thread that waits through a capability that is revoked waits no more";
    "revoke_survives_guard_drop", true, 4, "closing one opening does not bring back what was revoked";
    "quota_exhausted_and_returned", false, 8, "what an object costs is given back with it, to the byte";
    "openings_are_limited", false, 3, "a thread can have so many openings and no more";
    "thread_create_join_kill", false, 7, "threads end with a code, are joined, and are killed";
    "notification_bits_and_timeout", false, 8, "bits add up, are taken all at once, are masked by a badge";
    "domain_restart_same_endpoint", false, 4, "clients of an endpoint go on with the next domain that serves it";
    "memory_scrubbed_after_restart", false, 3, "memory that comes from a dead domain is zero";
    "key_reused_after_free_is_clean", true, 4, "who had a freed key open has nothing open of its next pages";
    "keys_exhausted_typed", true, 6, "no key is left: a typed error, nothing half done, and all works again after";
    "closed_for_want_of_a_key", true, 7, "rights shrink though no key is free: closed for all, opened again later";
}

/// The scenario with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Stands for this protocol.
#[derive(Clone, Copy, Debug)]
pub struct IpcTest;

impl Protocol for IpcTest {
    const NAME: &'static str = SERVER;
    type Request = Request;
    type Reply = Reply;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::name;
    use crate::proto::pks_test;

    #[test]
    fn names_are_unique_and_survive_a_message() {
        for (n, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..n].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
            assert!(pks_test::find(scenario.name).is_none(), "{}", scenario.name);
            assert_eq!(name(scenario.name), scenario.name);
            assert!(scenario.about.len() <= 128, "{}", scenario.name);
        }
    }
}
