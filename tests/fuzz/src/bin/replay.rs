//! Runs a target on files: `cargo run -p fuzz --bin replay -- TARGET FILE...`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(target) = words.next().and_then(|name| fuzz::find(&name)) else {
        let names = fuzz::TARGETS.map(|target| target.name).join(", ");
        eprintln!("replay: TARGET FILE...; targets are {names}");
        return ExitCode::FAILURE;
    };
    for file in words {
        match std::fs::read(&file) {
            Ok(bytes) => (target.run)(&bytes),
            Err(error) => {
                eprintln!("replay: {file}: {error}");
                return ExitCode::FAILURE;
            }
        }
        println!("{} on {file}: nothing wrong", target.name);
    }
    ExitCode::SUCCESS
}
