//! The manifest's front end: TOML in, `libpks::manifest` out, one clear message for each mistake.
//!
//! A file lists `[[server]]` tables; `extends = "OTHER.toml"` puts another file's servers in front.
//! `kind` says whether the system is a `plain` one or may hold what only demonstrations and tests
//! may (`demo`, `test`).

mod check;
mod mistake;
mod schema;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libpks::manifest::Manifest;
use toml::Spanned;

pub use mistake::{Mistake, Problem};
use schema::{File, Kind, Server};

/// A manifest file as it was read, for messages about places in it.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn read(path: &Path) -> Result<Self, Mistake> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Mistake::of_file(path, Problem::Unreadable(error.to_string())))?;
        Ok(Self { path: path.to_owned(), text })
    }

    fn parse(&self) -> Result<File, Mistake> {
        toml::from_str(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.mistake(at, Problem::Toml(error.message().to_owned()))
        })
    }

    /// A mistake at a byte offset in this file.
    fn mistake(&self, at: usize, problem: Problem) -> Mistake {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Mistake { file: self.path.clone(), line: Some(line), problem }
    }
}

/// A server's table and the file that it is in.
struct Entry<'a> {
    source: &'a Source,
    table: &'a Server,
}

impl Entry<'_> {
    fn mistake<T>(&self, at: &Spanned<T>, problem: Problem) -> Mistake {
        self.source.mistake(at.span().start, problem)
    }
}

/// Leaves out what a server would use if it were there, and is not.
fn leave_out_optional(files: &mut [(Source, File)]) {
    let servers = || files.iter().flat_map(|(_, file)| &file.server);
    let provided: BTreeSet<String> =
        servers().flat_map(|server| &server.provides).map(|name| name.get_ref().clone()).collect();
    for server in files.iter_mut().flat_map(|(_, file)| &mut file.server) {
        server.uses.retain(|used| !used.get_ref().optional || provided.contains(&used.get_ref().endpoint));
    }
}

/// Reads, checks and compiles a manifest.
///
/// # Errors
/// The first mistake that it meets, with its file and line.
pub fn load(path: &Path) -> Result<Manifest, Mistake> {
    let source = Source::read(path)?;
    let file = source.parse()?;
    let mut files = Vec::new();
    if let Some(base) = &file.extends {
        let base_path = path.parent().unwrap_or(Path::new("")).join(base.get_ref());
        let base_source = Source::read(&base_path)
            .map_err(|error| source.mistake(base.span().start, Problem::Base(error.problem.to_string())))?;
        let base_file = base_source.parse()?;
        if let Some(again) = &base_file.extends {
            return Err(base_source.mistake(again.span().start, Problem::ExtendsTwice));
        }
        files.push((base_source, base_file));
    }
    let kind = file.kind.unwrap_or(Kind::Plain);
    files.push((source, file));
    leave_out_optional(&mut files);
    let entries: Vec<_> = files
        .iter()
        .flat_map(|(source, file)| file.server.iter().map(move |table| Entry { source, table }))
        .collect();
    let servers = entries.iter().map(words::compile).collect::<Result<_, _>>()?;
    let manifest = Manifest { servers };
    check::check(&manifest, &entries, kind, path)?;
    Ok(manifest)
}
