//! The linked kernel's text, at every byte offset: a domain can jump to any of them.

use anyhow::Result;
use image::kernel;
use image::system::System;
use image::workspace::Workspace;

#[test]
fn text_writes_msrs_at_listed_sites_alone() -> Result<()> {
    let workspace = Workspace::find()?;
    let system = System::build(&workspace, &workspace.system_manifest())?;
    kernel::check(system.kernel())
}
