//! The supervisor, the console, the shell and the test link die, at any moment: all of them come back, nobody else
//! notices more than a typed error, and nothing stays behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::qemu::{Loader, Machine};
use libpks::abi::inspect::DomainInfo;
use libpks::abi::{Error, name};
use libpks::manifest::{Backoff, Manifest, RestartPolicy};
use libpks::proto::adversary::{self, Death as Demise};
use libpks::proto::supervisor::{Condition, Death, Moment, ServerInfo};
use libpks::proto::testlink::{Action, Persisted, Problem, Reply, Request};
use tests::cpu::Cpu;
use tests::failure::{Failure, check};
use tests::plan::{BootFn, End, Ending, Exercise, Plan, Running};

use crate::dialogues::{PROMPT, ask};
use crate::endurance::settled;
use crate::lab::Lab;
use crate::scenarios::{EXCHANGE, live_domains};

/// The server that ends while its supervisor does.
const VICTIM: &str = adversary::SERVER;
/// How long it may take until all is well again.
const WELL: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Deaths of `init` in a row in every run, and with all configurations, with keys for supervisor pages.
const SLICE: usize = 8;
const FULL: usize = 100;

/// The boots.
pub(crate) fn plans(lab: &Arc<Lab>, full: bool) -> Vec<Plan> {
    let cpus: &[u32] = if full { &[1, 4] } else { &[1] };
    let in_a_row = |cpu| if full && cpu == Cpu::Pks { FULL } else { SLICE };
    let all = |&cpu| cpus.iter().map(move |&cpus| deaths(lab, cpus, cpu, in_a_row(cpu)));
    let mut plans: Vec<_> = Cpu::kinds(full).iter().flat_map(all).collect();
    plans.extend([reboot(lab), stop(lab), revival(lab)]);
    plans
}

/// `init` dies at each of its moments, in each way, and many times in a row.
fn deaths(lab: &Arc<Lab>, cpus: u32, cpu: Cpu, in_a_row: usize) -> Plan {
    let moments = Moment::ALL.into_iter().flat_map(|moment| [(moment, Death::Panic), (moment, Death::Fault)]);
    let mut exercises: Vec<_> = moments
        .map(|(moment, death)| {
            let name = format!("init_dies_{moment:?}_by_{death:?}").to_lowercase();
            Exercise::new(name, move |running| init_dies(running, moment, death))
        })
        .collect();
    exercises.push(Exercise::new("init_is_killed_in_a_row", move |running| {
        (0..in_a_row).try_for_each(|_| killed_in_between(running))?;
        counts_settle(running)
    }));
    exercises.extend([
        Exercise::new("its_last_fault_is_remembered", |running| {
            init_dies(running, Moment::Now, Death::Panic)?;
            let message = last_fault(running, "init")?;
            check(message.contains("death was asked for: Now"), || format!("{message:?}"))?;
            let message = last_fault(running, VICTIM)?;
            check(message.contains("killed by a test"), || format!("{message:?}"))
        }),
        Exercise::new("patient_calls_follow_the_rules", patient_calls),
    ]);
    let boot_fn = with_policy(lab, cpus, cpu, RestartPolicy::Restart);
    let name = format!("supervision_cpus{cpus}{}", cpu.suffix());
    let mut plan = Plan::new(name, boot_fn, Ending::Closing, exercises);
    plan.weight = cpus as usize;
    plan
}

/// The test system with another policy for `init`.
fn with_policy(lab: &Arc<Lab>, cpus: u32, cpu: Cpu, policy: RestartPolicy) -> BootFn {
    let machine = Machine::new(Loader::Direct).cpus(cpus).cpu(cpu.model()).memory_mib(128);
    lab.boots_with_resealed(machine, "manifest", move |bytes| {
        let mut manifest = Manifest::decode(&bytes).ok()?;
        manifest.servers.first_mut()?.restart = policy;
        // Many deaths in a row are no reason to wait.
        let at_once = Backoff { first_ms: 0, longest_ms: 0 };
        manifest.servers.iter_mut().for_each(|server| server.backoff = at_once);
        manifest.encode(&[]).ok()
    })
}

/// A third death within ten seconds is too much for a system whose manifest says `reboot`.
fn reboot(lab: &Arc<Lab>) -> Plan {
    let exercise = Exercise::new("too_many_deaths_reboot_the_machine", |running: &mut Running| {
        running.console.saw(PROMPT, WELL)?;
        doom(running, Moment::Now, Death::Panic)?;
        doom(running, Moment::Now, Death::Fault)?;
        // Nobody is left who could answer.
        let third = Request::Doom { moment: Moment::Now, death: Death::Panic };
        let _ = running.link.ask(&third, Duration::from_millis(500));
        running.console.saw("init has ended 3 times in 10 s: the machine is started again", WELL)
    });
    let machine = Machine::new(Loader::Direct);
    Plan::new("supervision_reboot", lab.boots(machine), Ending::Exit(End::Reset), vec![exercise])
}

/// With the policy `stop` the servers go on without a supervisor.
fn stop(lab: &Arc<Lab>) -> Plan {
    let exercise = Exercise::new("the_servers_go_on_alone", |running: &mut Running| {
        for _ in 0..3 {
            doom(running, Moment::Now, Death::Panic)?;
        }
        running.console.saw("it stays stopped, and the servers go on without it", WELL)?;
        let live = live_domains(running)?;
        check(live.iter().all(|domain| domain.name != "init"), || format!("init runs: {live:?}"))?;
        let said = ask(running, "pks run S2_single")?;
        check(said.contains("PASS  S2_single"), || said.clone())
    });
    let boot_fn = with_policy(lab, 1, Cpu::Pks, RestartPolicy::Stop);
    Plan::new("supervision_stop", boot_fn, Ending::Closing, vec![exercise])
}

/// Console, shell and test link come back, and what they did goes on. A test link that was started again has forgotten
/// what it counted, so this boot has no closing record.
fn revival(lab: &Arc<Lab>) -> Plan {
    let exercises = vec![
        Exercise::new("the_console_comes_back", |running: &mut Running| {
            running.console.saw(PROMPT, WELL)?;
            for n in 0..3 {
                kill(running, "console")?;
                // The kernel says this itself: nobody else can.
                running.console.expect("killed by a test", WELL)?;
                running.console.expect("console ended: Faulted", WELL)?;
                running.console.expect("`console` started", WELL)?;
                // What is typed before the new console is there may get lost.
                running.console.expect(PROMPT, WELL)?;
                let said = ask(running, &format!("echo said-{n}"))?;
                check(said.contains(&format!("\nsaid-{n}\n")), || format!("no echo in {said}"))?;
            }
            Ok(())
        }),
        Exercise::new("the_shell_comes_back", |running: &mut Running| {
            kill(running, "shell")?;
            running.console.expect("shell ended: Faulted", WELL)?;
            running.console.expect("`help` lists the commands.", WELL)?;
            let said = ask(running, "uptime")?;
            check(said.contains("\nup "), || format!("no answer in {said}"))
        }),
        Exercise::new("the_test_link_comes_back", |running: &mut Running| {
            let killed = Request::Kill { name: name("testlink") };
            // Sent once: the next one would kill the next test link.
            let _ = running.link.ask(&killed, Duration::from_millis(1500));
            running.console.expect("testlink ended: Faulted", WELL)?;
            running.link.hello(WELL).map(drop)
        }),
        Exercise::new("the_last_fault_is_shown_after_restarts", |running: &mut Running| {
            kill(running, "console")?;
            running.console.expect("`console` started", WELL)?;
            running.console.expect(PROMPT, WELL)?;
            kill(running, "init")?;
            let said = ask(running, "faults console; faults init; faults pks_test; faults nobody")?;
            for words in ["domain=console", "domain=init", "pks_test has not faulted", "no such server"] {
                check(said.contains(words), || format!("no {words:?} in {said}"))?;
            }
            check(said.matches("\"killed by a test\"").count() == 2, || said.clone())
        }),
        Exercise::new("the_device_of_a_stopped_server_is_still", |running: &mut Running| {
            running.link.hello(WELL)?;
            let enabled = port(running, 0x2f9)?;
            check(enabled != 0, || "no interrupt was wanted before".into())?;
            ask(running, "stop testlink")?;
            let (enabled, modem) = (port(running, 0x2f9)?, port(running, 0x2fc)?);
            check((enabled, modem) == (0, 3), || format!("left with {enabled:#x}, {modem:#x}"))?;
            ask(running, "start testlink")?;
            running.link.hello(WELL).map(drop)
        }),
    ];
    let machine = Machine::new(Loader::Direct).cpus(2);
    let mut plan = Plan::new("revival", lab.boots(machine), Ending::Killed, exercises);
    plan.weight = 2;
    plan
}

/// How often one looks again for what a new supervisor has yet to find out.
const LOOKS: u32 = 250;

/// Has `init` die at a moment that comes when it starts the victim anew, and looks what has become of everybody.
fn init_dies(running: &mut Running, moment: Moment, death: Death) -> Result<(), Failure> {
    let before = State::of(running)?;
    doom(running, moment, death)?;
    match moment {
        Moment::Now => {}
        // Found by the supervisor's own thread, so no call is lost.
        Moment::Found => kill(running, VICTIM)?,
        _ => restart_fails_midway(running)?,
    }
    let expected = match moment {
        // What was half written down was not begun either.
        Moment::Now | Moment::HalfWritten => 0,
        _ => 1,
    };
    let mut after = well_again(running, &before, 1)?;
    // The new one believes at first that what it has adopted still runs.
    for _ in 0..LOOKS {
        if after.restarts(VICTIM) == before.restarts(VICTIM) + expected {
            break;
        }
        std::thread::sleep(LOOK);
        after = well_again(running, &before, 1)?;
    }
    let restarts = after.restarts(VICTIM).wrapping_sub(before.restarts(VICTIM));
    check(restarts == expected, || format!("{restarts} restarts of {VICTIM} at {moment:?}"))?;
    // Whoever supervises now does its work.
    kill(running, VICTIM)?;
    let last = well_again(running, &after, 0)?;
    check(last.restarts(VICTIM) == after.restarts(VICTIM) + 1, || format!("not restarted: {last:?}"))?;
    counts_settle(running)
}

/// `init` is killed at no moment in particular while it has to do with two servers.
fn killed_in_between(running: &mut Running) -> Result<(), Failure> {
    let before = State::of(running)?;
    kill(running, VICTIM)?;
    kill(running, "init")?;
    kill(running, "stress")?;
    well_again(running, &before, 1).map(drop)
}

/// The counts come to rest: a leak would add up.
fn counts_settle(running: &mut Running) -> Result<(), Failure> {
    let round = |running: &mut Running| {
        let before = State::of(running)?;
        doom(running, Moment::Now, Death::Panic)?;
        kill(running, VICTIM)?;
        well_again(running, &before, 1).map(drop)
    };
    settled(running, round).map(drop)
}

/// The victim is to be restarted, and the supervisor dies over it.
fn restart_fails_midway(running: &mut Running) -> Result<(), Failure> {
    let request = Request::Server { name: name(VICTIM), action: Action::Restart };
    match running.link.ask(&request, EXCHANGE) {
        Err(Failure::Refused(Problem::Kernel(Error::PeerDiedMidCall))) => Ok(()),
        other => Err(Failure::Wrong(format!("the supervisor did not die: {other:?}"))),
    }
}

/// Servers and domains as they are told of.
#[derive(Debug)]
struct State {
    servers: Vec<ServerInfo>,
    domains: Vec<DomainInfo>,
}

impl State {
    fn of(running: &mut Running) -> Result<Self, Failure> {
        let servers = match running.link.ask(&Request::Servers, EXCHANGE)? {
            Reply::Servers(servers) => servers.to_vec(),
            other => return Err(Failure::Wrong(format!("no servers: {other:?}"))),
        };
        Ok(Self { servers, domains: live_domains(running)? })
    }

    fn restarts(&self, name: &str) -> u32 {
        self.servers.iter().find(|server| server.name == name).map_or(u32::MAX, |server| server.restarts)
    }

    /// Whether every server runs, in one domain each.
    fn is_well(&self) -> bool {
        self.servers.iter().all(|server| {
            let domains = self.domains.iter().filter(|domain| domain.name == server.name).count();
            server.condition == Condition::Running && domains == 1
        })
    }
}

/// Waits until all servers run and `init` has been restarted so often, and looks whether those that had nothing to do
/// with it have gone on.
fn well_again(running: &mut Running, before: &State, deaths_of_init: u32) -> Result<State, Failure> {
    let begun = Instant::now();
    let expected = before.restarts("init") + deaths_of_init;
    let after = loop {
        let now = State::of(running)?;
        let over = now.restarts("init") == expected && now.is_well();
        let renewed = deaths_of_init > 0 || now.restarts(VICTIM) > before.restarts(VICTIM);
        if over && renewed {
            break now;
        }
        if begun.elapsed() > WELL {
            return Err(Failure::Wrong(format!("all is not well: {now:#?}")));
        }
        std::thread::sleep(LOOK);
    };
    for server in before.servers.iter().filter(|server| !["init", VICTIM, "stress"].contains(&&*server.name))
    {
        let calls = |state: &State| {
            state
                .domains
                .iter()
                .find(|domain| domain.name == server.name)
                .map(|domain| (domain.id, domain.calls))
        };
        let adopted =
            calls(before).zip(calls(&after)).is_some_and(|(then, now)| then.0 == now.0 && then.1 <= now.1);
        check(adopted && after.restarts(&server.name) == server.restarts, || {
            format!("{} was started again: {before:#?} and now {after:#?}", server.name)
        })?;
    }
    Ok(after)
}

/// What the rules of repeated calls say, with a server that dies of them.
fn patient_calls(running: &mut Running) -> Result<(), Failure> {
    let restarts = State::of(running)?.restarts(VICTIM);
    let cases = [
        (adversary::Request::Nothing, Persisted::Answered, 0),
        (adversary::Request::DieAt { restarts }, Persisted::Answered, 1),
        (adversary::Request::Die(Demise::Panic), Persisted::Killer(2), 2),
        (
            adversary::Request::Commit { name: name("panic"), target: 0, witness: 0 },
            Persisted::Failed(Error::PeerDiedMidCall),
            1,
        ),
    ];
    for (request, end, restarts) in cases {
        let reply = running.link.ask(&Request::Persist(request.clone()), 2 * EXCHANGE)?;
        check(reply == Reply::Persisted { end, restarts }, || format!("{request:?} gave {reply:?}"))?;
    }
    Ok(())
}

fn doom(running: &mut Running, moment: Moment, death: Death) -> Result<(), Failure> {
    running.link.ask(&Request::Doom { moment, death }, EXCHANGE).map(drop)
}

fn kill(running: &mut Running, domain: &str) -> Result<(), Failure> {
    running.link.ask(&Request::Kill { name: name(domain) }, EXCHANGE).map(drop)
}

fn last_fault(running: &mut Running, server: &str) -> Result<String, Failure> {
    match running.link.ask(&Request::LastFault { name: name(server) }, EXCHANGE)? {
        Reply::Fault(Some(report)) => Ok(report.message.to_string()),
        other => Err(Failure::Wrong(format!("no fault of {server}: {other:?}"))),
    }
}

/// A byte from a port, as QEMU reads it: `portb[0x02f9] = 0x00`.
fn port(running: &mut Running, port: u16) -> Result<u8, Failure> {
    let text = running.process.monitor(&format!("i /b {port:#x}"));
    let text = text.map_err(|error| Failure::Wrong(format!("no monitor: {error:#}")))?;
    let value = text.rsplit("0x").next().and_then(|hex| u8::from_str_radix(hex.trim(), 16).ok());
    value.ok_or_else(|| Failure::Wrong(format!("not a port: {text:?}")))
}
