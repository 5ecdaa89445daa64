//! The scenarios, by name.

mod access;
mod faults;
mod harness;
mod keys;
mod memory;
mod model;
mod registers;
mod rights;
mod switching;

use alloc::sync::Arc;

use libpks::proto::pks_test::{Scenario, Seen};

use crate::service::Service;
use access::{hardware, leaf, matrix};
use libpks::proto::pks_test::checks::{Checks, Run, Stop};
use rights::global;
pub(crate) use switching::domains::if_partner;

/// Runs a scenario; gives what was seen.
///
/// # Errors
/// [`Stop`].
pub(crate) fn run(scenario: &'static Scenario, service: &Arc<Service>, checks: &Checks) -> Run<Seen> {
    let tools = service.tools();
    match scenario.name {
        "S1_defaults" => registers::defaults::run(tools, checks),
        "S2_single" => matrix::single(tools, checks),
        "S3_all_keys" => matrix::all_keys(tools, checks),
        "S4_context_switch" => switching::ball::run(tools, checks),
        "S5_exception" => faults::exception::run(tools, checks),
        "S6_abandon" => global::abandon(tools, checks),
        "S7_update" => faults::update::run(tools, checks),
        "S8_global" => global::run(tools, checks),
        "S10_harness" => harness::service::run(service, checks),
        "K1_no_access_write" => hardware::k1(tools, checks),
        "K2_no_access_write_wp_off" => hardware::k2(tools, checks),
        "K3_read_only_write" => hardware::k3(tools, checks),
        "K4_read_only_write_wp_off" => hardware::k4(tools, checks),
        "K5_user_page_write_wp_off" => hardware::k5(tools, checks),
        "K6_user_page_write" => hardware::k6(tools, checks),
        "K7_no_access_read" => hardware::k7(tools, checks),
        "P1_registers" => registers::defaults::registers(tools, checks),
        "P2_every_cpu" => matrix::every_cpu(tools, checks),
        "P3_cross_talk" => matrix::cross_talk(tools, checks),
        "P4_leaf_sizes" => leaf::sizes(tools, checks),
        "P14_fetch" => leaf::fetch(tools, checks),
        "P15_user_page" => hardware::user_page(tools, checks),
        "P16_write_protect_off" => hardware::write_protect_off(tools, checks),
        "P22_without_keys" => registers::without_keys::run(tools, checks),
        "P6_forced_switch" => switching::forced::run(tools, checks),
        "M3_domain_switch" => switching::domains::run(tools, checks),
        "M2_load" => switching::load::run(tools, checks),
        "P7_migration" => switching::migration::run(tools, checks),
        "P8_two_keys" => faults::isolation::two_keys(tools, checks),
        "P10_handlers_keys" => faults::isolation::others_keys_stay_closed(tools, checks),
        "P11_grant" => faults::grant::run(tools, checks),
        "P13_guards" => rights::guards::run(tools, checks),
        "P21_sabotage" => harness::sabotage::run(tools, checks),
        "P5_error_codes" => matrix::error_codes(tools, checks),
        "P9_nested" => faults::nested::run(tools, checks),
        "P17_reserved_bits" => hardware::reserved_bits(tools, checks),
        "P18_rekey" => keys::pool::rekey(tools, checks),
        "M1_fresh_memory" => memory::fresh(checks),
        "P19_audit" => keys::audit::run(tools, checks),
        "P20_exhaustion" => keys::pool::exhaustion(tools, checks),
        "P23_stress" => model::run(tools, checks),
        other => Err(Stop::failed(format_args!("{other} is listed, but nobody has written it"))),
    }
}
