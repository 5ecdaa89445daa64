//! Runs the bench, prints its table, writes `bench.json` and `bench.svg` into the target directory, and compares with what was last accepted.
//! Words: `accept=REASON`; `trace=ROW` tells instead where the instructions of one round are.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Result, bail};
use image::workspace::Workspace;
use tests::bench::{self, Accepted};
use tests::cpu::Cpu;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives whether nothing is worse than what was accepted.
fn run() -> Result<bool> {
    let (mut because, mut traced) = (None, None);
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("accept", reason)) => because = Some(reason.to_owned()),
            Some(("trace", row)) => traced = Some(row.to_owned()),
            _ => bail!("{word}: not accept=REASON or trace=ROW"),
        }
    }
    let workspace = Workspace::find()?;
    if let Some(row) = traced {
        print!("{}", bench::trace(&workspace, &row)?);
        return Ok(true);
    }
    let rows = bench::run(&workspace, Cpu::Pks)?;
    let others = [bench::run(&workspace, Cpu::Pku)?, bench::run(&workspace, Cpu::NoKeys)?].concat();
    let all = [rows.clone(), others].concat();
    print!("{}", bench::table(&all));
    let file = workspace.target().join("bench.json");
    std::fs::write(&file, bench::json(&all)?)?;
    println!("bench: {}", file.display());
    let before = match &because {
        Some(_) => bench::accepted(&workspace).unwrap_or_else(|_| Accepted::default()),
        None => bench::accepted(&workspace)?,
    };
    let picture = workspace.target().join("bench.svg");
    bench::picture(&rows, &before, &picture)?;
    println!("bench: {}", picture.display());
    if let Some(because) = because {
        std::fs::copy(&picture, bench::picture_file(&workspace))?;
        let accepted = before.accept(&all, &because)?;
        accepted.write(&bench::accepted_file(&workspace))?;
        let costs = bench::readme::table(&accepted)?;
        tests::page::renew(&workspace.root().join("README.md"), bench::readme::BEGIN, &costs)?;
        println!("bench: accepted");
        return Ok(true);
    }
    let worse = before.worse(&all)?;
    for one in &worse {
        println!("WORSE {one}");
    }
    Ok(worse.is_empty())
}
