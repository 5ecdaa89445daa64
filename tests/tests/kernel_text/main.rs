//! The linked kernel's text, at every byte offset and instruction by instruction: a domain can jump to any of it.

mod checked_writes;
mod sites;

use anyhow::Result;
use image::system::System;
use image::workspace::Workspace;
use image::{kernel, text::Text};

fn system() -> Result<System> {
    let workspace = Workspace::find()?;
    System::build(&workspace, &workspace.system_manifest())
}

/// The text of one section.
fn section(system: &System, wanted: &str) -> Result<Text> {
    Text::read(system.kernel(), |name| name == wanted)
}

#[test]
fn text_writes_msrs_at_listed_sites_alone() -> Result<()> {
    kernel::check(system()?.kernel())
}
