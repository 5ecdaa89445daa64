//! What a judge must not be fooled by.

use super::*;
use crate::abi::fault::{FaultAccess, FaultKind, FaultReport};
use crate::abi::name;
use crate::pkey::{Access, Pkey, Pkrs, Rights};
use crate::proto::testlink;
use crate::wire;

const CRASH: &str = "S9_crash";
const ARMED: Armed =
    Armed { address: 0xffff_e000_0000_1000, key: 7, rights: Rights::NoAccess, access: Access::Write };

fn report() -> FaultReport {
    FaultReport {
        time_ns: 1,
        domain: 4,
        domain_name: name(SERVER),
        thread: 9,
        cpu: 0,
        kind: FaultKind::ProtectionKey,
        access: FaultAccess::Write,
        address: ARMED.address,
        error_code: 0x23,
        key: Some(ARMED.key),
        owner: Some(name(SERVER)),
        pkrs: 0x5555_5554,
        pkrs_live: 0x5555_5554,
        rip: 0,
        rsp: 0,
        rflags: 0,
        registers: [0; 15],
        backtrace: heapless::Vec::new(),
        message: heapless::String::new(),
    }
}

fn crash(change: impl FnOnce(&mut FaultReport)) -> Verdict {
    let mut report = report();
    change(&mut report);
    ARMED.verdict(Err(Error::PeerDiedMidCall), Some(&report), true).judged(CRASH).verdict
}

#[test]
fn the_crash_passes_only_by_the_announced_fault() {
    assert_eq!(crash(|_| {}), Verdict::Pass);
    assert_eq!(crash(|report| report.domain_name = name("shell")), Verdict::Fail);
    assert_eq!(crash(|report| report.kind = FaultKind::NotMapped), Verdict::Fail);
    assert_eq!(crash(|report| report.kind = FaultKind::Panic), Verdict::Fail);
    assert_eq!(crash(|report| report.access = FaultAccess::Read), Verdict::Fail);
    assert_eq!(crash(|report| report.address += 8), Verdict::Fail);
    assert_eq!(crash(|report| report.key = Some(8)), Verdict::Fail);
    assert_eq!(crash(|report| report.key = None), Verdict::Fail);
    assert_eq!(crash(|report| report.pkrs = 0), Verdict::Fail);
    assert_eq!(crash(|report| report.pkrs_live ^= 3 << 14), Verdict::Fail);
}

#[test]
fn the_crash_fails_if_the_caller_saw_anything_but_a_death() {
    let report = report();
    let verdict = |call: Result<&Reply, Error>, report, answers| ARMED.verdict(call, report, answers).verdict;
    let survived = Reply::Done(Outcome::new(Verdict::Pass, 99, format_args!("fine")));
    assert_eq!(verdict(Ok(&survived), Some(&report), true), Verdict::Fail);
    assert_eq!(verdict(Err(Error::PeerDied), Some(&report), true), Verdict::Fail);
    assert_eq!(verdict(Err(Error::TimedOut), Some(&report), true), Verdict::Fail);
    assert_eq!(verdict(Err(Error::PeerDiedMidCall), None, true), Verdict::Fail);
    assert_eq!(verdict(Err(Error::PeerDiedMidCall), Some(&report), false), Verdict::Fail);
}

#[test]
fn a_pass_needs_its_checks() {
    let pass = |checks| Outcome::new(Verdict::Pass, checks, format_args!("ok"));
    for scenario in SCENARIOS {
        assert!(scenario.least_checks > 0, "{} could pass without a check", scenario.name);
        assert_eq!(pass(scenario.least_checks).judged(scenario.name).verdict, Verdict::Pass);
        assert_eq!(pass(scenario.least_checks - 1).judged(scenario.name).verdict, Verdict::Fail);
    }
    assert_eq!(pass(u32::MAX).judged("S99").verdict, Verdict::Fail);
}

#[test]
fn the_required_scenarios_are_there_once() {
    let begins = |prefix: &str| SCENARIOS.iter().filter(|s| s.name.starts_with(prefix)).count();
    for required in (1..=10).map(|n| (b'S', n)).chain((1..=7).map(|n| (b'K', n))) {
        let prefix = alloc::format!("{}{}_", char::from(required.0), required.1);
        assert_eq!(begins(&prefix), 1, "{prefix}");
    }
    for crash in CRASHES {
        assert!(find(crash.scenario).is_some(), "{}", crash.scenario);
        assert_eq!(super::crash(crash.scenario), Some(&crash));
        let permitted = Pkrs::DEFAULT.with(Pkey::new(7).unwrap(), crash.rights);
        assert!(!permitted.permits(Pkey::new(7).unwrap(), crash.access, true), "{}", crash.scenario);
    }
    for scenario in SCENARIOS {
        let listed = &page(core::slice::from_ref(scenario), 0)[0];
        let told = (listed.name.as_str(), listed.about.as_str(), listed.source.as_str());
        assert_eq!(told, (scenario.name, scenario.about, scenario.source), "it must fit");
        assert!(!scenario.source.is_empty() && !scenario.about.is_empty(), "{}", scenario.name);
    }
}

#[test]
fn the_longest_replies_fit_an_ipc_buffer() {
    let mut buffer = [0; crate::abi::layout::IPC_BUFFER_BYTES];
    let long = Outcome::new(Verdict::Fail, u32::MAX, format_args!("{:é<1000}", ""));
    assert_eq!(long.seen.len(), 400);
    assert!(wire::encode(&Ok::<_, Error>(Reply::Done(long)), &mut buffer).is_ok());
    let line = Listed {
        name: name(&"n".repeat(99)),
        about: "a".repeat(128).as_str().try_into().expect("fits"),
        source: "s".repeat(96).as_str().try_into().expect("fits"),
        least_checks: u32::MAX,
    };
    let page: Page = core::iter::repeat_n(line, Page::new().capacity()).collect();
    assert!(wire::encode(&Ok::<_, Error>(Reply::Listing(page.clone())), &mut buffer).is_ok());
    let answered = testlink::Answered { number: u32::MAX, reply: testlink::Reply::Listing(page) };
    assert!(wire::encode(&answered, &mut [0; testlink::MAX_BYTES]).is_ok());
}
