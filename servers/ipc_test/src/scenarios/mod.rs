//! The scenarios, by name.

mod authority;
mod calls;
mod deaths;
mod hangs;
mod hostile;
mod keys;
mod loans;
mod messages;
mod objects;
mod races;
mod revoke;
mod rings;
mod signals;
mod time;
mod transfers;
mod urgency;
mod views;
mod wake;

use libpks::abi::Error;
use libpks::proto::pks_test::{Scenario, Seen};
use libpks::rt::text;

use crate::crew::Tools;
use libpks::proto::pks_test::checks::{Checks, Run, Stop};

/// Runs a scenario; gives what was seen.
///
/// # Errors
/// [`Stop`].
pub(crate) fn run(scenario: &'static Scenario, tools: &Tools, checks: &Checks) -> Run<Seen> {
    let run_fn = match scenario.name {
        "call_reply_registers" => messages::registers,
        "call_reply_4096_bytes" => messages::full_buffer,
        "badge_identifies" => messages::badge,
        "transfer_copy" => transfers::copy,
        "transfer_move" => transfers::hand_over,
        "transfer_lend" => transfers::lend,
        "transfer_refused" => transfers::all_or_none,
        "lent_region_closed_after_reply" => transfers::lent_region_closed,
        "openings_end_with_the_call" => transfers::openings_end_with_call,
        "timeout_lends_nothing" => loans::timeout,
        "loan_ends_with_the_borrower" => loans::death,
        "loan_lent_on_and_dropped" => loans::lent_on,
        "loan_revoked_in_the_call" => loans::revoked,
        "loan_twice" => loans::twice,
        "loan_of_other_objects" => loans::objects,
        "reply_to_nobody" => authority::replies,
        "timeout_before_accept" => calls::timeout_before_accept,
        "no_timeout_after_accept" => calls::no_timeout_after_accept,
        "callee_dies_mid_call" => deaths::callee,
        "callee_dies_queued_callers_stay" => deaths::queued_callers_stay,
        "queue_passes_revoked_caller" => calls::queue_passes_revoked_caller,
        "middle_dies" => deaths::middle,
        "caller_dies_in_server" => deaths::caller,
        "server_dies_with_orphans" => deaths::orphan,
        "fault_in_call_is_the_servers" => deaths::fault_in_call,
        "callers_thread_stays_callers" => calls::thread_of_caller,
        "last_capability_on_loan" => deaths::last_capability_on_loan,
        "domain_ends_itself" => deaths::ends_itself,
        "would_deadlock" => calls::would_deadlock,
        "deadlock" => calls::deadlock,
        "too_deep" => calls::too_deep,
        "remembered_calls" => calls::remembered,
        "two_cpus_call_one_server" => calls::from_two_cpus,
        "urgent_waiter_lends_priority" => urgency::low_priority,
        "holder_without_budget_is_hurried" => urgency::no_budget,
        "spinner_starves_nobody" => time::starves_nobody,
        "budget_runs_out_and_comes_back" => time::runs_out,
        "call_is_charged_to_the_client" => time::charged_to_client,
        "long_call_does_not_hang" => time::long_call,
        "cpu_quota_exhausted_and_returned" => time::quota,
        "hung_server_is_ended" => hangs::server,
        "orphaned_call_pays_for_itself" => hangs::orphan,
        "forged_handle" => hostile::forged,
        "garbage_message" => hostile::garbage,
        "oversized_message" => hostile::oversized,
        "hostile_sizes" => hostile::sizes,
        "revoke_reaches_running_thread" => revoke::running,
        "revoke_reaches_parked_thread" => revoke::parked,
        "revoke_reaches_call_chain" => revoke::chain,
        "rekey_under_running_thread" => revoke::rekey,
        "revoke_of_many" => revoke::many,
        "revoke_wakes_waiter" => revoke::waiter,
        "revoke_survives_guard_drop" => revoke::guard_drop,
        "revoke_ends_serving" => authority::serve,
        "revoke_ends_news_of_ends" => signals::ends,
        "revoke_ends_news_of_faults" => signals::faults,
        "revoke_ends_interrupts" => signals::interrupts,
        "parts_have_no_more_rights" => authority::parts,
        "module_is_read_within" => authority::module,
        "recorded_rights_within" => authority::recorded_rights,
        "entries_are_at_home" => authority::entries,
        "backtrace_stays_at_home" => authority::backtrace,
        "log_line_stays_one" => authority::log,
        "payer_dies_first" => authority::payers,
        "ring_between_domains" => rings::between_domains,
        "ring_survives_lies" => rings::lies,
        "quota_exhausted_and_returned" => objects::quota,
        "openings_are_limited" => objects::openings,
        "thread_create_join_kill" => objects::threads,
        "notification_bits_and_timeout" => objects::notifications,
        "domains_told_while_others_go" => objects::domains_told,
        "domain_restart_same_endpoint" => deaths::restart,
        "memory_scrubbed_after_restart" => objects::scrubbed,
        "key_reused_after_free_is_clean" => keys::reused,
        "keys_exhausted_typed" => keys::exhausted,
        "hand_over_without_a_key" => keys::handed_over,
        "refused_hand_over_is_undone" => views::refused_across,
        "closed_for_want_of_a_key" => keys::closed_for_want,
        "more_domains_than_keys" => views::more_than_keys,
        "placed_as_asked" => views::placed,
        "views_share_a_region" => views::shared,
        "calls_load_roots_between_views" => views::roots,
        "calls_through_three_views" => views::chain,
        "slot_is_in_one_view" => views::slots,
        "race_revoke" => races::revoke,
        "race_narrow" => races::narrow,
        "race_close_for_all" => races::close_for_all,
        "race_destroy" => races::destroy,
        "race_key_reuse" => races::key_reuse,
        "race_rekey" => races::rekey,
        "race_kill_thread" => races::kill_thread,
        "race_kill_domain" => races::kill_domain,
        "race_migrate" => races::migrate,
        "race_server_dies" => races::server_dies,
        "race_wake" => wake::wake,
        "race_two_revokes" => races::two_revokes,
        other => return Err(Stop::failed(format_args!("{other} is listed, but nobody has written it"))),
    };
    let before = tools.used_bytes()?;
    let seen = run_fn(tools, checks)?;
    // Whatever a scenario made has gone with it; only the heap may have grown, by whole pages.
    let after = tools.used_bytes()?;
    checks.that(
        after >= before && (after - before).is_multiple_of(libpks::abi::layout::PAGE),
        format_args!("{before} bytes of the quota were used before, {after} after"),
    )?;
    Ok(text::cut(format_args!("{seen}")))
}

/// Whether an operation of the kernel failed as it must.
pub(crate) fn refused<T: core::fmt::Debug>(
    checks: &Checks,
    what: &str,
    outcome: Result<T, Error>,
    expected: Error,
) -> Run {
    let holds = matches!(&outcome, Err(error) if *error == expected);
    checks.that(holds, format_args!("{what}: {outcome:x?} instead of {expected:?}"))
}
