//! No row of the bench may get worse than what was last accepted. The counts are exact, so this is no matter of luck. Those
//! with PKU are counted where all configurations are run.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use image::workspace::Workspace;
use tests::bench;
use tests::cpu::Cpu;
use tests::plan::is_full;

#[test]
fn no_row_is_worse_than_accepted() -> Result<()> {
    let workspace = Workspace::find()?;
    let mut rows = bench::run(&workspace, Cpu::Pks)?;
    if is_full() {
        rows.extend(bench::run(&workspace, Cpu::Pku)?);
        rows.extend(bench::run(&workspace, Cpu::NoKeys)?);
    }
    let worse = bench::accepted(&workspace)?.worse(&rows)?;
    let worse: Vec<_> = worse.iter().map(ToString::to_string).collect();
    ensure!(worse.is_empty(), "{}\n(`just bench accept=\"REASON\"` accepts them)", worse.join("\n"));
    Ok(())
}
