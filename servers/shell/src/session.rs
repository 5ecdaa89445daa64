//! The loop: a line, its commands, what they show.

use crate::scenarios::Form;
use crate::screen::{Event, Screen};
use crate::trouble::Trouble;
use crate::{attacks, control, scenarios, show};
use alloc::string::String;
use core::fmt::Write;
use libpks::abi::inspect::{PowerAction, SystemInfo};
use libpks::rt::{Env, Inspect};
use shell::command::{self, Command, HELP};
use shell::editor::Editor;

/// Before each command.
const PROMPT: &str = "pks> ";

/// A person, or a line of commands, at the terminal.
pub(crate) struct Session {
    env: Env,
    screen: Screen,
}

impl Session {
    pub(crate) const fn new(env: Env, screen: Screen) -> Self {
        Self { env, screen }
    }

    /// Greets, runs the commands that the shell was started with, then those that are typed. It does not come back.
    pub(crate) fn run(mut self) -> Result<(), Trouble> {
        let system = self.env.capability::<Inspect>("inspect")?.system()?;
        self.greet(&system);
        if let Some(commands) = self.env.arg("cmd").map(String::from) {
            let _ = writeln!(self.screen, "{PROMPT}{commands}");
            self.obey(&commands);
        }
        self.converse()
    }

    fn greet(&mut self, system: &SystemInfo) {
        let SystemInfo { version, isolation, cpus, loader, .. } = system;
        let _ = writeln!(
            self.screen,
            "\nPortcullis {version}, started by {loader}, {cpus} CPUs, isolation: {isolation}"
        );
        let _ = writeln!(self.screen, "`help` lists the commands.");
    }

    fn converse(mut self) -> Result<(), Trouble> {
        let mut editor = Editor::new(PROMPT);
        let mut shown = String::new();
        editor.show(&mut shown);
        loop {
            let _ = self.screen.write_str(&core::mem::take(&mut shown));
            if !self.screen.has_input() {
                self.screen.flush();
            }
            match self.screen.next_event() {
                Event::Renewed => editor.show(&mut shown),
                Event::Byte(byte) => {
                    if let Some(line) = editor.feed(byte, &mut shown) {
                        let _ = self.screen.write_str(&core::mem::take(&mut shown));
                        self.obey(&line);
                        editor.show(&mut shown);
                    }
                }
            }
        }
    }

    fn obey(&mut self, line: &str) {
        for text in command::split(line) {
            let outcome = match command::parse(text) {
                Ok(command) => self.execute(command),
                Err(error) => {
                    let _ = writeln!(self.screen, "{error}");
                    continue;
                }
            };
            if let Err(trouble) = outcome {
                let _ = writeln!(self.screen, "{text}: {trouble}");
            }
            // The next command may take its time.
            self.screen.flush();
        }
    }

    fn execute(&mut self, command: Command<'_>) -> Result<(), Trouble> {
        let (env, screen) = (&self.env, &mut self.screen);
        match command {
            Command::Help => {
                for (written, about) in HELP {
                    let _ = writeln!(screen, "  {written:<15} {about}");
                }
                let _ = writeln!(screen, "Several commands go on one line with `;` between them.");
                Ok(())
            }
            Command::Domains => show::domains(env, screen),
            Command::Keys => show::keys(env, screen),
            Command::Caps(name) => show::capabilities(env, screen, name),
            Command::Threads => show::threads(env, screen),
            Command::Mem => show::memory(env, screen),
            Command::Cpus => show::cpus(env, screen),
            Command::Log => show::log(env, screen),
            Command::Faults => show::faults(env, screen),
            Command::FaultOf(name) => show::fault_of(env, screen, name),
            Command::Uptime => show::uptime(screen),
            Command::Echo(text) => {
                let _ = writeln!(screen, "{text}");
                Ok(())
            }
            Command::Start(name) => control::start(env, screen, name),
            Command::Stop(name) => control::stop(env, screen, name),
            Command::Restart(name) => control::restart(env, screen, name),
            Command::PowerOff => control::power(env, screen, PowerAction::Off),
            Command::Reboot => control::power(env, screen, PowerAction::Reboot),
            Command::PksList => scenarios::list(env, screen, Form::Short),
            Command::PksListLong => scenarios::list(env, screen, Form::Long),
            Command::PksRun(name) => scenarios::run_one(env, screen, name),
            Command::PksAll => scenarios::run_all(env, screen),
            Command::AttackList => attacks::list(screen),
            Command::Attack("all") => attacks::make_all(env, screen),
            Command::Attack(name) => attacks::make_one(env, screen, name),
        }
    }
}
