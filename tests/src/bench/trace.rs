//! Where the instructions of one round are.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use image::system::System;
use image::text::Text;
use libpks::abi::layout;

use super::counts::STEP;

/// A function's part in a round.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// How often it was come to, from elsewhere.
    visits: usize,
    instructions: usize,
}

/// The functions, those with the most instructions first.
pub(super) fn table(system: &System, text: &str) -> Result<String> {
    let addresses = text.lines().filter_map(|line| line.strip_prefix(STEP));
    let addresses: Vec<u64> =
        addresses.map(|digits| u64::from_str_radix(digits, 16)).collect::<Result<_, _>>()?;
    ensure!(!addresses.is_empty(), "the row was not traced");
    let places = Places::read(system)?;
    let mut parts = HashMap::<String, Part>::new();
    let mut before = String::new();
    for &address in &addresses {
        let function = places.function(address);
        let part = parts.entry(function.clone()).or_default();
        part.instructions += 1;
        part.visits += usize::from(function != before);
        before = function;
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by(|(a, left), (b, right)| right.instructions.cmp(&left.instructions).then(a.cmp(b)));
    let mut table = format!("{} instructions\n{:>6} {:>6}  function\n", addresses.len(), "count", "visits");
    for (function, Part { visits, instructions }) in parts {
        writeln!(table, "{instructions:>6} {visits:>6}  {function}")?;
    }
    Ok(table)
}

/// The kernel's text and the bench's.
struct Places {
    kernel: Text,
    bench: Text,
}

impl Places {
    fn read(system: &System) -> Result<Self> {
        let bench = system.symbols().last().context("no servers")?;
        Ok(Self { kernel: Text::read(system.kernel(), |_| true)?, bench: Text::read(bench, |_| true)? })
    }

    fn function(&self, address: u64) -> String {
        let place = match layout::slot_of(address) {
            Some(_) => {
                let offset = (address - layout::SLOTS_BASE) % layout::SLOT_BYTES;
                self.bench.place(offset.wrapping_sub(layout::IMAGE_OFFSET))
            }
            None => self.kernel.place(address),
        };
        place.rsplit_once('+').map_or(place.clone(), |(function, _)| function.to_owned())
    }
}
