//! The stress run for as long as one likes: boots again and again, new seeds all the time, a line a minute. It stops at
//! the first failure. Words: `minutes=60 cpus=4 seed=`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use image::qemu::{Loader, Machine, Paging};
use image::system::System;
use image::workspace::Workspace;
use libpks::proto::stress::Tally;
use libpks::proto::testlink::{Reply, Request};
use tests::failure::Failure;
use tests::plan::{End, Running};
use tests::{qemu, stress};

const MANIFEST: &str = "boot/test.toml";
/// How long a boot is used before the next.
const BOOT: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

struct Words {
    time: Duration,
    cpus: u32,
    seed: u64,
}

fn main() -> ExitCode {
    match words().and_then(|words| soak(&words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn words() -> Result<Words> {
    let mut words = Words { time: 60 * MINUTE, cpus: 4, seed: stress::first_seed()? };
    for word in std::env::args().skip(1) {
        let number = |text: &str| text.parse::<u32>().with_context(|| format!("{word} needs a number"));
        match word.split_once('=') {
            Some(("minutes", text)) => words.time = number(text)? * MINUTE,
            Some(("cpus", text)) => words.cpus = number(text)?,
            Some(("seed", "")) => {}
            Some(("seed", text)) => words.seed = stress::parse_seed(text)?,
            _ => bail!("{word}: not one of minutes= cpus= seed="),
        }
    }
    Ok(words)
}

fn soak(words: &Words) -> Result<()> {
    let workspace = Arc::new(Workspace::find()?);
    let system = Arc::new(System::build(&workspace, &workspace.root().join(MANIFEST)).context(MANIFEST)?);
    let begun = Instant::now();
    let (mut all, mut seed, mut boots) = (Tally::default(), words.seed, 0);
    println!("soak: {} CPUs, first seed {seed:#x}", words.cpus);
    while boots == 0 || begun.elapsed() < words.time {
        let paging = if boots % 2 == 0 { Paging::Four } else { Paging::Five };
        let machine = Machine::new(Loader::Direct).cpus(words.cpus).paging(paging).memory_mib(128);
        let mut running = qemu::boots(Arc::clone(&workspace), Arc::clone(&system), machine)()?;
        let time = BOOT.min(words.time.saturating_sub(begun.elapsed()));
        let boot = one_boot(&mut running, &mut seed, time, &all, begun);
        let tally =
            boot.map_err(|failure| anyhow::anyhow!("{failure}\nconsole:\n{}", running.console.tail(60)))?;
        all.add(&tally);
        boots += 1;
    }
    println!("soak: {boots} boots, no failure; {all}");
    Ok(())
}

/// Sessions in one boot, and the guest's own closing record at the end.
fn one_boot(
    running: &mut Running,
    seed: &mut u64,
    time: Duration,
    before: &Tally,
    begun: Instant,
) -> Result<Tally, Failure> {
    running.link.hello(READY)?;
    stress::free_keys(running)?;
    let mut told = Instant::now();
    let tally = stress::sessions(running, *seed, time, |session, tally| {
        *seed = session.seed.wrapping_add(1);
        if told.elapsed() >= MINUTE {
            told = Instant::now();
            let minutes = begun.elapsed().as_secs() / 60;
            let (steps, faults) = (before.steps + tally.steps, before.faults + tally.faults);
            println!("soak: {minutes} min, {steps} steps, {faults} faults, last seed {:#x}", session.seed);
        }
    })?;
    match running.link.ask(&Request::Finish, END)? {
        Reply::Closing(_) => {}
        other => return Err(Failure::Wrong(format!("no closing record: {other:?}"))),
    }
    match running.wait(END)? {
        End::Success => Ok(tally),
        other => Err(Failure::Wrong(format!("QEMU ended with {other}"))),
    }
}
