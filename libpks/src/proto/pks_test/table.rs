//! The scenarios of `pks_test`, in the order in which they are run.
//!
//! docs/scenarios.md is written from this table (`just docs`), and a test fails while it differs.

use super::Scenario;

/// A list of scenarios: name, the least number of checks, what it shows, and where the
/// expectation comes from.
macro_rules! scenarios {
    ($($name:literal, $least:literal, $about:literal, $source:expr;)+) => {
        /// All scenarios, in the order in which they are run.
        pub const SCENARIOS: &[$crate::proto::pks_test::Scenario] = &[$(
            $crate::proto::pks_test::Scenario {
                name: $name,
                about: $about,
                source: $source,
                least_checks: $least,
            }
        ),+];
    };
}
pub(in crate::proto) use scenarios;

scenarios! {
    "S1_defaults", 6, "every CPU has the bit of CR4 and the default word, read by a thread that runs there",
        "Linux PKS series V10, pks_test cmd 0";
    "S2_single", 14, "one key: no access, read-write and read-only, each read and written by a thread",
        "Linux PKS series V10, pks_test cmd 1; WD rows: V7 cmd 0";
    "S3_all_keys", 100, "every key to be had, all others closed, then open; and the kernel's own key",
        "Linux PKS series V10, pks_test cmd 6";
    "S4_context_switch", 1400, "threads on one CPU keep their own rights; each is denied what it may not in every turn",
        "Linux PKS series V10, pks_test cmd 2 and 3";
    "S5_exception", 16, "a fault's handler has its own rights; the thread gets back what was recorded",
        "Linux PKS series V10, pks_test cmd 4";
    "S6_abandon", 24, "rights given to all threads: none faults, armed before or after, asleep or not",
        "Linux PKS series V7, pks_test cmd 6";
    "S7_update", 6, "rights recorded for a faulted thread hold from then on, for that thread alone",
        "Linux PKS series V10, pks_test cmd 5";
    "S8_global", 12, "rights of all threads change under a thread that is running on another CPU",
        "Linux RFC PKS/PMEM 02/58, global test";
    "S9_crash", 6, "an unhandled fault ends the test domain alone (ask twice in a row)",
        "Linux PKS series V10, pks_test cmd 9";
    "S10_harness", 16, "the test server refuses what it must: unknown names, two runs at once, stale arming",
        "Linux PKS series V10, sessions of pks_test";
    "K1_no_access_write", 4, "AD with CR0.WP set: a write faults, and is done once the key is open",
        "kvm-unit-tests x86/pks.c, row 1";
    "K2_no_access_write_wp_off", 3, "AD with CR0.WP clear: a write faults",
        "kvm-unit-tests x86/pks.c, row 2";
    "K3_read_only_write", 3, "WD with CR0.WP set: a write faults",
        "kvm-unit-tests x86/pks.c, row 3";
    "K4_read_only_write_wp_off", 3, "WD with CR0.WP clear: a write is done",
        "kvm-unit-tests x86/pks.c, row 4";
    "K5_user_page_write_wp_off", 4, "WD with CR0.WP clear: a write to a user page is done",
        "kvm-unit-tests x86/pks.c, row 5";
    "K6_user_page_write", 4, "WD with CR0.WP set: a write to a user page is done",
        "kvm-unit-tests x86/pks.c, row 6";
    "K7_no_access_read", 6, "AD: a read of a user page is done, a read of a supervisor page faults",
        "kvm-unit-tests x86/pks.c, row 7; Intel SDM vol. 3A, 4.6.2";
    "P1_registers", 16, "CPUID, CR4 and the register itself on every CPU, read in a thread's context",
        "Intel SDM vol. 2A, CPUID; vol. 3A, 4.6.2; Linux PKS series V8, cmd 0";
    "P2_every_cpu", 20, "the matrix with one key, by threads on every CPU",
        "Linux pks RFC v3, pks_test cmd 0";
    "P3_cross_talk", 500, "each key against each other one that has other rights, and mixed neighbours",
        "Intel SDM vol. 3A, 4.6.2; Linux PKS series V10, cmd 6";
    "P4_leaf_sizes", 90, "the matrix through leaves of 4 KiB, 2 MiB and 1 GiB: the leaf's key counts",
        "Intel SDM vol. 3A, 4.5.4, tables 4-16, 4-18, 4-20";
    "P5_error_codes", 6, "error codes 0x21 and 0x23 and the exact address, at both ends of a page",
        "Intel SDM vol. 3A, 4.7";
    "P6_forced_switch", 220, "A to B to A and all other orders on one CPU, each counted, each seen by a fault; the third thread opens nothing",
        "Linux PKS series V4 and V10, pks_test cmd 2 and 3, made to force the switch";
    "P7_migration", 20, "a thread goes to another CPU with guards open, by itself and while it runs",
        "Linux PKS series V4, PKRS is the thread's; docs/memory-and-keys.md";
    "P8_two_keys", 24, "a thread faults at two keys in turn; its handler has them open in another way throughout",
        "Linux PKS series V10, pks_test cmd 4, with two keys";
    "P9_nested", 220, "ten traps inside one another, faults and NMIs have the kernel's word; 8 handlers upon each other, each with its own",
        "Linux pks RFC v3, nested exceptions; docs/traps.md";
    "P10_handlers_keys", 17, "a handler opens a key while the thread has another open: that one stays closed to it",
        "Linux PKS series V10, pks_set_* in a handler (what it gets wrong)";
    "P11_grant", 40, "granted at a fault: no second fault of that thread, other threads still fault, until taken back",
        "Linux PKS series V10, pks_update_exception, pks_test cmd 5";
    "P12_strict", 6, "a fault that nobody waits for ends the domain; with somebody who waits it does not (ask twice in a row)",
        "Linux PKS series V10, memremap.pks_fault_mode=strict; Intel SDM vol. 3A, 4.6.2";
    "P13_guards", 500, "guards nest and are dropped in every order, by early returns too: the word is what the living say",
        "docs/memory-and-keys.md; Linux PKS series V1, review by T. Gleixner";
    "P14_fetch", 16, "code is fetched from a page whose key is closed, and not from an XD page",
        "Intel SDM vol. 3A, 4.6.2; QEMU target/i386";
    "P15_user_page", 60, "the matrix at a user page and at a supervisor page under the same key",
        "Intel SDM vol. 3A, 4.6.2; kvm-unit-tests x86/pks.c";
    "P16_write_protect_off", 36, "the matrix with CR0.WP clear, each row followed by its row with CR0.WP set",
        "Intel SDM vol. 3A, 4.6.2; kvm-unit-tests x86/pks.c";
    "P17_reserved_bits", 60, "a word with a bit above 31 is refused by the CPU, one without is taken",
        "Intel SDM vol. 4, table 2-2, IA32_PKRS";
    "P18_rekey", 6, "a page with another key obeys the new key on every CPU",
        "Intel SDM vol. 3A, 4.10.4.1";
    "P20_exhaustion", 4, "more keys than there are: a typed error, and all come back",
        "Linux PKS series V1, pks_key_alloc -ENOSPC";
    "P21_sabotage", 100, "state is damaged behind the kernel's back, and the checks of the other scenarios notice",
        "Linux PKS series, review by Dave Hansen: sabotage the kernel, see the test fail";
    "P22_without_keys", 14, "a machine without keys says so with typed errors, one with keys gives the counterpart",
        "Linux PKS series V9, SKIP of test_pks; pks RFC v3, -EINVAL";
    "M1_fresh_memory", 24, "memory that somebody else has used comes back as zeros",
        "docs/memory-and-keys.md";
    "M2_load", 9, "threads on all CPUs open, close, wait, yield and move: each word is what its thread holds",
        "docs/memory-and-keys.md";
    "M3_domain_switch", 260, "threads of two domains in turn on one CPU, each under its domain's key",
        "docs/memory-and-keys.md";
    "P19_audit", 2, "every mapping has the key and the permissions that the rules say",
        "docs/memory-and-keys.md";
    "P23_stress", 2000, "random steps of threads, regions, capabilities, keys in three domains, as the model says",
        "libpks/src/model";
}

/// The scenario with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
