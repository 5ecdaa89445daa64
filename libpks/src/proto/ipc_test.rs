//! The scenarios of `ipc_test`: the rules of calls, capabilities and domains. It speaks as
//! [`pks_test`](super::pks_test) does; only the scenarios are others.
#![forbid(unsafe_code)]

use super::Protocol;
use super::pks_test::table::scenarios;
use super::pks_test::{Reply, Request, Scenario};

/// The domain that runs the scenarios.
pub const SERVER: &str = "ipc_test";

scenarios! {
    "call_reply_registers", 2, "a short message and its reply go in registers",
        "docs/ipc.md";
    "call_reply_4096_bytes", 2, "a message and a reply that fill the IPC buffer",
        "docs/ipc.md";
    "badge_identifies", 5, "a server sees the badge that was minted, which nobody can choose or change",
        "docs/capabilities.md";
    "transfer_copy", 5, "a copied capability has the sender's rights at most; the sender keeps its own",
        "docs/capabilities.md";
    "transfer_move", 5, "a capability that is handed over leaves its sender, and comes back in a reply",
        "docs/capabilities.md";
    "transfer_lend", 6, "a lent capability cannot be copied or kept, and is gone with the reply",
        "docs/capabilities.md";
    "transfer_refused", 9, "a message that is refused changes nothing: named twice, lent in a reply, no right",
        "docs/capabilities.md";
    "lent_region_closed_after_reply", 4, "what was opened of a lent region stays closed, also when it is lent again",
        "docs/capabilities.md";
    "openings_end_with_the_call", 4, "what a server opened in a call and never closed is closed in the next call",
        "docs/capabilities.md";
    "timeout_lends_nothing", 5, "a call that is not accepted in time has lent nothing, at no moment",
        "docs/capabilities.md";
    "loan_ends_with_the_borrower", 3, "what a server had on loan when it died has come back",
        "docs/capabilities.md";
    "loan_lent_on_and_dropped", 3, "a loan takes along what was lent on, though the borrower dropped its own before",
        "docs/capabilities.md";
    "loan_revoked_in_the_call", 4, "what was lent is revoked above the lender: the borrower has it no more",
        "docs/capabilities.md";
    "loan_twice", 5, "of two loans of one region each ends with its own call",
        "docs/capabilities.md";
    "loan_of_other_objects", 10, "notifications and endpoints on loan; what is lent is not handed over",
        "docs/capabilities.md";
    "reply_to_nobody", 6, "what a reply hands over that nobody takes is not left with the server",
        "docs/ipc.md";
    "timeout_before_accept", 3, "a call that is not accepted in time fails, and never reaches the server",
        "docs/ipc.md";
    "no_timeout_after_accept", 2, "a call that was accepted outlives its deadline",
        "docs/ipc.md";
    "callee_dies_mid_call", 3, "the caller learns that the server died in the middle of its request",
        "docs/ipc.md";
    "callee_dies_queued_callers_stay", 7, "who is not accepted yet waits for the server's successor",
        "docs/ipc.md";
    "queue_passes_revoked_caller", 4, "a queued caller whose capability went does not stop those behind it",
        "docs/ipc.md";
    "middle_dies", 6, "A calls B calls C and B dies: A goes on at once, C comes to its end, B's reply is dropped",
        "docs/ipc.md";
    "caller_dies_in_server", 4, "a caller dies: the server is not disturbed and keeps what was lent",
        "docs/ipc.md";
    "server_dies_with_orphans", 4, "a server dies while it works for callers that are dead",
        "docs/ipc.md";
    "fault_in_call_is_the_servers", 3, "a fault in a server ends the server, whatever its caller asked to hear of",
        "docs/ipc.md";
    "callers_thread_stays_callers", 2, "a server cannot take the thread that calls it",
        "docs/ipc.md";
    "last_capability_on_loan", 4, "an endpoint goes with the loan that was its last capability",
        "docs/capabilities.md";
    "domain_ends_itself", 4, "a domain stops itself, or deletes the last capability to itself, within a call",
        "docs/servers.md";
    "would_deadlock", 2, "a call to a busy server on one's own chain is refused",
        "docs/ipc.md";
    "deadlock", 3, "a call that would close a cycle of waiting threads is refused",
        "docs/ipc.md";
    "too_deep", 2, "a chain of calls is eight deep at most",
        "docs/ipc.md";
    "two_cpus_call_one_server", 3, "each caller gets its own replies, and no call is lost or counted twice",
        "docs/ipc.md";
    "remembered_calls", 90, "a call that was made before goes the short way, and not beyond what made it right",
        "docs/ipc.md";
    "urgent_waiter_lends_priority", 4, "a server runs at the priority of the most urgent who waits for it",
        "docs/ipc.md";
    "holder_without_budget_is_hurried", 4, "the same though the budget of whom the server works for is used up",
        "docs/cpu-time.md";
    "spinner_starves_nobody", 5, "an urgent domain that never rests does not keep a less urgent one from its CPU",
        "docs/cpu-time.md";
    "budget_runs_out_and_comes_back", 3, "a budget is used up and renewed, and no more than it is used at priority",
        "docs/cpu-time.md";
    "call_is_charged_to_the_client", 1, "time in a server is charged to the domain where the thread began",
        "docs/cpu-time.md";
    "long_call_does_not_hang", 2, "a call that takes longer than its client's budget comes to its end",
        "docs/cpu-time.md";
    "cpu_quota_exhausted_and_returned", 3, "all budgets together are no more than one CPU has",
        "docs/cpu-time.md";
    "hung_server_is_ended", 6, "a server that does not come back is ended; caller and next caller go on",
        "docs/cpu-time.md";
    "orphaned_call_pays_for_itself", 6, "a call whose client is gone goes on, is charged to nobody, and hangs in the end",
        "docs/cpu-time.md";
    "forged_handle", 100, "handles that were made up, of another kind, or gone are refused by every operation",
        "docs/capabilities.md";
    "garbage_message", 30, "reserved bits, unknown operations, bytes that are no message",
        "docs/syscalls.md";
    "oversized_message", 10, "messages that are larger than the buffer",
        "docs/syscalls.md";
    "hostile_sizes", 40, "sizes and addresses near the end of 64 bits are refused by every operation",
        "docs/syscalls.md";
    "revoke_reaches_running_thread", 5, "a thread that runs without a pause loses what is revoked",
        "docs/capabilities.md";
    "revoke_reaches_parked_thread", 8, "a thread that waits has lost what was revoked when it wakes",
        "docs/capabilities.md";
    "revoke_reaches_call_chain", 8, "an activation in the middle of a chain has lost it when the call returns",
        "docs/capabilities.md";
    "rekey_under_running_thread", 3, "pages change their key under a thread that has them open, and it does not notice",
        "docs/memory-and-keys.md";
    "revoke_of_many", 3, "a revoke of more than one step takes them all",
        "docs/capabilities.md";
    "revoke_wakes_waiter", 2, "a thread that waits through a capability that is revoked waits no more",
        "docs/capabilities.md";
    "revoke_survives_guard_drop", 4, "closing one opening does not bring back what was revoked",
        "docs/capabilities.md";
    "revoke_ends_serving", 6, "a server without the right to serve is let no more calls; the next one is",
        "docs/capabilities.md";
    "revoke_ends_news_of_ends", 5, "the end of a domain is not told through what was revoked or deleted",
        "docs/capabilities.md";
    "revoke_ends_news_of_faults", 10, "nor is a fault, which then ends the domain",
        "docs/capabilities.md";
    "revoke_ends_interrupts", 9, "nor is an interrupt; several capabilities to a line",
        "docs/capabilities.md";
    "parts_have_no_more_rights", 10, "a part has no right that the whole lacks; ports are those of the range",
        "docs/capabilities.md";
    "module_is_read_within", 10, "a boot module is read up to its end and no further",
        "docs/capabilities.md";
    "recorded_rights_within", 9, "rights of a thread are set no further than a capability goes",
        "docs/capabilities.md";
    "entries_are_at_home", 20, "threads and calls enter a domain in its own memory only",
        "docs/capabilities.md";
    "backtrace_stays_at_home", 14, "a backtrace follows frame pointers in the own domain's memory only",
        "docs/capabilities.md";
    "ring_between_domains", 6, "messages go through rings to another domain and back, in order, and ends that wait are woken",
        "docs/ipc.md";
    "ring_survives_lies", 20, "a ring whose other end lies about its count gives an error, and loses nothing",
        "docs/ipc.md";
    "log_line_stays_one", 3, "a line in the log cannot look like another's",
        "docs/capabilities.md";
    "payer_dies_first", 5, "what a domain made and left to others is paid for once, and given back",
        "docs/capabilities.md";
    "quota_exhausted_and_returned", 8, "what an object costs is given back with it, to the byte",
        "docs/capabilities.md";
    "openings_are_limited", 3, "a thread can have so many openings and no more",
        "docs/capabilities.md";
    "thread_create_join_kill", 7, "threads end with a code, are joined, and are killed",
        "docs/servers.md";
    "notification_bits_and_timeout", 8, "bits add up, are taken all at once, are masked by a badge",
        "docs/ipc.md";
    "domains_told_while_others_go", 4, "who asks for all domains hears of each that is there all the while",
        "docs/servers.md";
    "domain_restart_same_endpoint", 4, "clients of an endpoint go on with the next domain that serves it",
        "docs/servers.md";
    "memory_scrubbed_after_restart", 3, "memory that comes from a dead domain is zero",
        "docs/servers.md";
    "key_reused_after_free_is_clean", 4, "who had a freed key open has nothing open of its next pages",
        "docs/memory-and-keys.md";
    "keys_exhausted_typed", 6, "no key is left: a typed error, nothing half done, and all works again after",
        "docs/memory-and-keys.md";
    "hand_over_without_a_key", 6, "a region is handed over while no key is free, from one domain's key to another's",
        "docs/memory-and-keys.md";
    "refused_hand_over_is_undone", 4, "two regions are not handed into a view that has a key for one: what was open of them stays open",
        "docs/memory-and-keys.md";
    "closed_for_want_of_a_key", 7, "rights shrink though no key is free: closed for all, opened again later",
        "docs/memory-and-keys.md";
    "more_domains_than_keys", 4, "more domains than there are keys live at one time, and each answers",
        "docs/memory-and-keys.md";
    "placed_as_asked", 8, "a domain is in the view that was asked for, or is refused; one is alone that is to be",
        "docs/memory-and-keys.md";
    "views_share_a_region", 8, "a region has one address in two views, and in each the rights that its domains hold",
        "docs/memory-and-keys.md";
    "calls_load_roots_between_views", 3, "a call inside a view loads no root, one into another view two",
        "docs/memory-and-keys.md";
    "slot_is_in_one_view", 12, "a slot that was in one view and is given out in another is shown there alone",
        "docs/memory-and-keys.md";
    "calls_through_three_views", 100, "a call into a second view and on into a third comes back by the same way",
        "docs/ipc.md";
    "race_revoke", 8, "a thread on another CPU uses a region up to its revoke, and not once more",
        "docs/capabilities.md";
    "race_narrow", 8, "the same for the right to write, where the domain may go on reading",
        "docs/capabilities.md";
    "race_close_for_all", 8, "the same for rights of all threads that are closed",
        "docs/memory-and-keys.md";
    "race_destroy", 4, "the same for a region whose last capability goes",
        "docs/memory-and-keys.md";
    "race_key_reuse", 8, "its key and its address are given out again at once: nothing of it is open",
        "docs/memory-and-keys.md";
    "race_rekey", 8, "its pages change their key: the thread goes on",
        "docs/memory-and-keys.md";
    "race_kill_thread", 8, "the thread is killed: it does nothing more",
        "docs/servers.md";
    "race_kill_domain", 4, "its domain is stopped: it does nothing more",
        "docs/servers.md";
    "race_migrate", 8, "it is sent to the other CPU while what it may do ends: it faults there",
        "docs/memory-and-keys.md";
    "race_server_dies", 4, "calls are under way when their server is stopped: each comes to an end",
        "docs/ipc.md";
    "race_wake", 2, "a signal meets a thread on its way to sleep: it wakes",
        "docs/ipc.md";
    "race_two_revokes", 4, "two CPUs revoke what overlaps: one of them finds nothing left",
        "docs/capabilities.md";
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
