//! The adversary's attacks, as a show.

use crate::screen::Screen;
use crate::trouble::Trouble;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use libpks::abi::inspect::{DomainState, Isolation};
use libpks::proto::adversary::judge::Judge;
use libpks::proto::adversary::{CRIMES, Crime, SORTS, find};
use libpks::rt::{Env, Inspect};
use shell::attack::{Colours, Score, words};

pub(crate) fn list(screen: &mut Screen) -> Result<(), Trouble> {
    for sort in SORTS {
        let _ = writeln!(screen, "{}", sort.title);
        for crime in sort.crimes {
            let _ = writeln!(screen, "  {:<28} {}", crime.name, crime.about);
        }
    }
    Ok(())
}

pub(crate) fn make_one(env: &Env, screen: &mut Screen, name: &str) -> Result<(), Trouble> {
    let crime = find(name).ok_or_else(|| Trouble::UnknownAttack(name.into()))?;
    let isolation = isolation(env)?;
    if let Some(why) = crime.why_lost(isolation) {
        return Err(Trouble::Refused(format!("with {isolation} nothing stops it: {why}")));
    }
    let judge = Judge::new(env)?;
    let (score, attempts, what) = make(&judge, crime);
    let _ = writeln!(screen, "{name}: {}", crime.about);
    let _ = writeln!(screen, "  what stops it: {}", crime.stopped_by);
    if !crime.left.is_empty() {
        let _ = writeln!(screen, "  what is left: {}", crime.left);
    }
    let _ = writeln!(screen, "  {} {what} ({attempts} attempts)", score.word(Colours::Off).trim_end());
    Ok(())
}

/// Makes all, each with a line, and gives the score. The kernel's log, which would have a report between each two, is
/// not shown meanwhile.
pub(crate) fn make_all(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let (judge, isolation) = (Judge::new(env)?, isolation(env)?);
    let colours = if screen.is_terminal_there() { Colours::On } else { Colours::Off };
    screen.show_log(false);
    let (mut stopped, mut through, mut attempts, mut left_out) = (0, 0, 0, 0);
    for sort in SORTS {
        let _ = writeln!(screen, "\n{}", sort.title);
        for crime in sort.crimes {
            if crime.why_lost(isolation).is_some() {
                left_out += 1;
                let _ = writeln!(screen, "  not made {:<28} {}", crime.name, crime.about);
                continue;
            }
            let (score, made, what) = make(&judge, crime);
            attempts += made;
            match score {
                Score::Stopped => stopped += 1,
                Score::WentThrough => through += 1,
            }
            let _ = writeln!(screen, "  {} {:<28} {}", score.word(colours), crime.name, crime.about);
            let _ = writeln!(screen, "             {what}");
            screen.flush();
        }
    }
    screen.show_log(true);
    let made = CRIMES.len() - left_out;
    let _ =
        writeln!(screen, "\n{made} attacks, {stopped} stopped, {through} went through ({attempts} attempts)");
    if left_out > 0 {
        let _ = writeln!(screen, "{left_out} were not made: with {isolation} nothing stops them");
    }
    alive(env, screen)
}

fn isolation(env: &Env) -> Result<Isolation, Trouble> {
    Ok(env.capability::<Inspect>("inspect")?.system()?.isolation)
}

fn make(judge: &Judge, crime: &Crime) -> (Score, u32, String) {
    match judge.judge(crime) {
        Ok(trial) => {
            let score = if trial.stopped { Score::Stopped } else { Score::WentThrough };
            (score, trial.attempts, words(&trial.consequence))
        }
        Err(failure) => (Score::WentThrough, 0, alloc::format!("not judged: {failure}")),
    }
}

/// Who runs, after all that.
fn alive(env: &Env, screen: &mut Screen) -> Result<(), Trouble> {
    let inspect: Inspect = env.capability("inspect")?;
    let _ = write!(screen, "alive:");
    for domain in inspect.domains() {
        let domain = domain?;
        if domain.state == DomainState::Running {
            let _ = write!(screen, " {}", domain.name);
        }
    }
    let _ = writeln!(screen);
    Ok(())
}
