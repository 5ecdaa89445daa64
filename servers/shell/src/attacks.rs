//! The adversary's attacks, as a show.

use crate::screen::Screen;
use crate::trouble::Trouble;
use alloc::string::String;
use core::fmt::Write;
use libpks::abi::inspect::DomainState;
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
    let judge = judge(env)?;
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
    let judge = judge(env)?;
    let colours = if screen.is_terminal_there() { Colours::On } else { Colours::Off };
    screen.show_log(false);
    let (mut stopped, mut through, mut attempts) = (0, 0, 0);
    for sort in SORTS {
        let _ = writeln!(screen, "\n{}", sort.title);
        for crime in sort.crimes {
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
    let _ = writeln!(
        screen,
        "\n{} attacks, {stopped} stopped, {through} went through ({attempts} attempts)",
        CRIMES.len()
    );
    alive(env, screen)
}

fn judge(env: &Env) -> Result<Judge, Trouble> {
    if !env.capability::<Inspect>("inspect")?.system()?.isolation.has_keys() {
        return Err(Trouble::Refused("this CPU has no protection keys: attacks would go through".into()));
    }
    Ok(Judge::new(env)?)
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
