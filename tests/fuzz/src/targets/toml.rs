//! Manifests in TOML. A refusal names the file and a line that it has; what is taken compiles, and comes back.

use std::cell::RefCell;
use std::path::PathBuf;

use image::manifest::{Problem, load};
use libpks::manifest::Manifest;
use tempfile::TempDir;

/// A folder for the file, which the parser reads by its path.
fn file(text: &[u8]) -> PathBuf {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| TempDir::new().expect("a folder for the file"));
        let path = folder.path().join("fuzzed.toml");
        std::fs::write(&path, text).expect("the file is written");
        path
    })
}

/// Runs the target.
pub fn run(text: &[u8]) {
    let path = file(text);
    match load(&path) {
        Ok(manifest) => {
            let bytes = manifest.encode(&[]).expect("a manifest has an encoding");
            assert_eq!(Manifest::decode(&bytes), Ok(manifest), "another manifest came back");
        }
        Err(mistake) => {
            assert_eq!(mistake.file, path, "a mistake in another file");
            assert!(!mistake.problem.to_string().is_empty(), "a mistake without words");
            // What is wrong with a file as a whole is at none of its lines.
            let whole = matches!(
                mistake.problem,
                Problem::NoInit | Problem::TooManyServers(..) | Problem::Unreadable(_)
            );
            let lines = 1 + text.iter().filter(|byte| **byte == b'\n').count();
            match mistake.line {
                None => assert!(whole, "no line: {mistake}"),
                Some(line) => assert!((1..=lines).contains(&line), "{mistake} of {lines} lines"),
            }
        }
    }
}
