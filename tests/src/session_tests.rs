//! Sessions with guests that misbehave in every way that a verdict must not be fooled by.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use libpks::abi::inspect::{Isolation, SystemInfo};
use libpks::proto::pks_test::{Outcome, Verdict};
use libpks::proto::testlink::{self, Answered, Asked, Closing};

use super::*;
use crate::console::Console;
use crate::frame::{self, Frames};
use crate::link::Link;
use crate::plan::Process;

const LIMIT: Duration = Duration::from_millis(400);

/// What a fake guest does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NeverAnswers,
    OldVersion,
    NeverCloses,
    ExitsWithoutClosing,
    ClosesWithWrongCounts,
    ExitsWithFailure,
    NeverExits,
    Garbage,
    DamagesFirstAnswer,
    DiesAtRun,
    HangsAtRunOf(&'static str),
}

struct FakeProcess(mpsc::Receiver<End>);

impl Process for FakeProcess {
    fn wait(&mut self, _limit: Duration) -> Option<End> {
        // The real limit would only make the tests slow.
        self.0.recv_timeout(LIMIT).ok()
    }
}

struct Fake {
    stream: UnixStream,
    fault: Fault,
    counted: Closing,
    last: Option<(u32, Vec<u8>)>,
}

impl Fake {
    fn serve(mut self, exit: &mpsc::Sender<End>) {
        use std::io::{Read, Write};
        let (mut frames, mut bytes) = (Frames::default(), [0; 256]);
        while let Ok(count @ 1..) = self.stream.read(&mut bytes) {
            frames.push(&bytes[..count]);
            while let Some(asked) = frames.next_message::<Asked>() {
                let Ok(asked) = asked else { continue };
                let finished = asked.request == Request::Finish;
                let Some(answer) = self.answer(asked) else { return };
                if self.stream.write_all(&answer).is_err() {
                    return;
                }
                if finished && !matches!(self.fault, Fault::NeverExits | Fault::NeverCloses) {
                    let end = if self.fault == Fault::ExitsWithFailure { End::Failure } else { End::Success };
                    let _ = exit.send(end);
                    return;
                }
            }
        }
    }

    /// Bytes to send; `None` to go away.
    fn answer(&mut self, asked: Asked) -> Option<Vec<u8>> {
        if let Some((number, answer)) = &self.last
            && *number == asked.number
        {
            return Some(answer.clone());
        }
        let silent = match &asked.request {
            _ if self.fault == Fault::NeverAnswers => true,
            Request::Finish => matches!(self.fault, Fault::NeverCloses | Fault::ExitsWithoutClosing),
            Request::Run { name } => {
                self.fault == Fault::HangsAtRunOf("any")
                    || matches!(self.fault, Fault::HangsAtRunOf(n) if n == name)
            }
            _ => false,
        };
        if silent {
            return Some(Vec::new());
        }
        self.counted.requests += 1;
        let reply = match asked.request {
            Request::Hello => Reply::Ready {
                version: testlink::VERSION + u32::from(self.fault == Fault::OldVersion),
                abi: libpks::abi::VERSION,
                system: system(),
            },
            Request::Run { .. } if self.fault == Fault::DiesAtRun => return None,
            Request::Run { .. } => {
                self.counted.count(Verdict::Pass);
                Reply::Outcome(Outcome::new(Verdict::Pass, 999, format_args!("fake")))
            }
            Request::Finish if self.fault == Fault::ClosesWithWrongCounts => {
                Reply::Closing(Closing { passed: self.counted.passed + 1, ..self.counted })
            }
            Request::Finish => Reply::Closing(self.counted),
            _ => Reply::Done,
        };
        let answer = frame::encode(&Answered { number: asked.number, reply });
        self.last = Some((asked.number, answer.clone()));
        Some(match self.fault {
            Fault::Garbage => [b"\x03\x00noise\x00\x00\xff\xff".as_slice(), &answer].concat(),
            Fault::DamagesFirstAnswer => answer.iter().map(|byte| if *byte == 0 { 0 } else { 1 }).collect(),
            _ => answer,
        })
    }
}

fn system() -> SystemInfo {
    SystemInfo {
        version: libpks::abi::name("0"),
        isolation: Isolation::Pks,
        paging_levels: 4,
        cpus: 1,
        uptime_ns: 0,
        frames_total: 0,
        frames_free: 0,
        loader: libpks::abi::name("fake"),
        keys_free: 0,
        views: 0,
    }
}

/// A plan with the exercises `a` and `b` on guests with a fault, and how often it was booted.
fn plan(fault: Fault) -> (Plan, Arc<AtomicUsize>) {
    let boots = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&boots);
    let boot_fn = move || {
        count.fetch_add(1, Ordering::Relaxed);
        let ((stream, ours), (_, console)) = (UnixStream::pair()?, UnixStream::pair()?);
        let (exit, exited) = mpsc::channel();
        let fake = Fake { stream, fault, counted: Closing::default(), last: None };
        thread::spawn(move || {
            fake.serve(&exit);
            thread::sleep(3 * LIMIT); // The sender lives on: a guest that goes away is not one that exits.
        });
        Ok(Running {
            link: Link::new(ours),
            console: Console::new(console)?,
            process: Box::new(FakeProcess(exited)),
        })
    };
    let run = |name: &'static str| {
        Exercise::new(name, move |running: &mut Running| {
            match running.link.ask(&Request::Run { name: libpks::abi::name(name) }, LIMIT)? {
                Reply::Outcome(outcome) if outcome.verdict != Verdict::Fail => Ok(()),
                other => Err(Failure::Wrong(format!("{other:?}"))),
            }
        })
    };
    let mut plan = Plan::new("fake", Box::new(boot_fn), Ending::Closing, vec![run("a"), run("b")]);
    (plan.ready_limit, plan.end_limit) = (Some(LIMIT), LIMIT);
    (plan, boots)
}

fn failures(fault: Fault) -> Vec<Option<Failure>> {
    conduct(&plan(fault).0, |_| true)
        .results
        .into_values()
        .map(|result| result.err().map(|failed| failed.failure))
        .collect()
}

#[test]
fn a_good_guest_passes_in_one_boot() {
    let (plan, boots) = plan(Fault::None);
    let Session { results, boots: counted, .. } = conduct(&plan, |_| true);
    assert!(results.len() == 2 && results.values().all(|result| result.is_ok()), "{results:?}");
    assert_eq!((boots.load(Ordering::Relaxed), counted), (1, 1));
}

#[test]
fn only_what_is_wanted_is_run() {
    let (plan, _) = plan(Fault::None);
    assert_eq!(conduct(&plan, |name| name == "b").results.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_silent_guest_times_out() {
    assert!(failures(Fault::NeverAnswers).iter().all(|f| matches!(f, Some(Failure::TimedOut { .. }))));
}

#[test]
fn another_version_is_refused() {
    assert!(failures(Fault::OldVersion).iter().all(|f| matches!(f, Some(Failure::Wrong(_)))));
}

#[test]
fn without_a_closing_record_nothing_has_passed() {
    assert!(failures(Fault::NeverCloses).iter().all(|f| matches!(f, Some(Failure::TimedOut { .. }))));
}

#[test]
fn a_good_exit_code_without_a_closing_record_is_no_pass() {
    assert!(failures(Fault::ExitsWithoutClosing).iter().all(|f| matches!(f, Some(Failure::NoClosing(_)))));
}

#[test]
fn wrong_counts_fail_everything() {
    assert!(
        failures(Fault::ClosesWithWrongCounts).iter().all(|f| matches!(f, Some(Failure::Miscounted { .. })))
    );
}

#[test]
fn another_exit_code_fails_everything() {
    assert!(failures(Fault::ExitsWithFailure).iter().all(|f| matches!(f, Some(Failure::WrongEnd { .. }))));
}

#[test]
fn a_guest_that_does_not_exit_times_out() {
    assert!(failures(Fault::NeverExits).iter().all(|f| matches!(f, Some(Failure::TimedOut { .. }))));
}

#[test]
fn garbage_on_the_line_is_skipped() {
    assert_eq!(failures(Fault::Garbage), [None, None]);
}

#[test]
fn answers_that_are_always_damaged_time_out() {
    assert!(failures(Fault::DamagesFirstAnswer).iter().all(|f| matches!(f, Some(Failure::TimedOut { .. }))));
}

#[test]
fn a_guest_that_dies_is_lost_and_the_rest_is_tried_in_new_boots() {
    let (plan, boots) = plan(Fault::DiesAtRun);
    let Session { results, boots: counted, .. } = conduct(&plan, |_| true);
    assert!(
        results.values().all(|r| matches!(r, Err(Failed { failure: Failure::Lost(_), .. }))),
        "{results:?}"
    );
    assert_eq!((boots.load(Ordering::Relaxed), counted), (2, 2));
}

#[test]
fn the_exercise_that_hangs_fails_alone() {
    let (plan, boots) = plan(Fault::HangsAtRunOf("b"));
    let Session { results, boots: counted, .. } = conduct(&plan, |_| true);
    assert!(results["a"].is_ok(), "{results:?}");
    assert!(matches!(&results["b"], Err(Failed { failure: Failure::TimedOut { .. }, .. })), "{results:?}");
    assert_eq!((boots.load(Ordering::Relaxed), counted), (2, 2));
}
