//! One stream out of what clients write and what the kernel logs.
//!
//! Lines of the log go out whole. If a client has written part of a line, such as a prompt with what was typed behind
//! it, that part is wiped, the log's lines are put in its place, and it is written again below them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that wait for the device at most.
const LIMIT: usize = 16 << 10;
/// The longest part of a line that is remembered.
const PART_LIMIT: usize = 512;
/// Back to the first column, and clear up to the end of the line (ECMA-48, 8.3.41 "EL").
const WIPE: &[u8] = b"\r\x1b[K";

/// The stream.
#[derive(Debug, Default)]
pub struct Terminal {
    output: VecDeque<u8>,
    /// What clients have written since the cursor was in the first column.
    part: Vec<u8>,
    /// Whether the cursor may be elsewhere than at the start of an empty line.
    is_line_begun: bool,
}

impl Terminal {
    /// Takes a client's bytes, `\n` as `\r\n`, and tells how many; fewer than all if there is no room.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        for (n, &byte) in bytes.iter().enumerate() {
            // An end of line takes two bytes.
            if self.room() < 2 {
                return n;
            }
            if byte == b'\n' {
                self.output.push_back(b'\r');
            }
            self.output.push_back(byte);
            self.remember(byte);
        }
        bytes.len()
    }

    /// Takes whole lines from the beginning of a piece of the log, as many as there is room for, and tells how many
    /// bytes they are. A piece without an end of line is taken as a line if it is `is_longest`, the longest there is.
    pub fn write_log(&mut self, piece: &[u8], is_longest: bool) -> usize {
        let around = if self.is_line_begun { WIPE.len() + self.part.len() } else { 0 };
        let room = self.room().saturating_sub(around);
        let mut taken = 0;
        let mut needed = 0;
        for line in piece.split_inclusive(|&byte| byte == b'\n') {
            needed += line.len() + 2;
            if needed > room || !(line.ends_with(b"\n") || (is_longest && taken == 0)) {
                break;
            }
            taken += line.len();
        }
        let lines = piece.get(..taken).unwrap_or(&[]);
        if !lines.is_empty() {
            self.put_between(lines);
        }
        taken
    }

    /// The next byte for the device.
    pub fn next_byte(&mut self) -> Option<u8> {
        self.output.pop_front()
    }

    /// Whether half of the room is free, after which it is worth telling who waits for it.
    pub fn has_space(&self) -> bool {
        self.room() >= LIMIT / 2
    }

    fn room(&self) -> usize {
        LIMIT.saturating_sub(self.output.len())
    }

    fn put_between(&mut self, lines: &[u8]) {
        if self.is_line_begun {
            self.output.extend(WIPE);
        }
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            self.output.extend(line.strip_suffix(b"\n").unwrap_or(line));
            self.output.extend(b"\r\n");
        }
        self.output.extend(&self.part);
        self.is_line_begun = !self.part.is_empty();
    }

    fn remember(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.part.clear();
                self.is_line_begun = false;
            }
            // The line is still there, and most likely about to be overwritten.
            b'\r' => {
                self.part.clear();
                self.is_line_begun = true;
            }
            _ => {
                self.is_line_begun = true;
                if self.part.len() < PART_LIMIT {
                    self.part.push(byte);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn drained(terminal: &mut Terminal) -> String {
        let bytes = core::iter::from_fn(|| terminal.next_byte()).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn clients_and_log_take_turns_by_lines() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.write(b"one\n"), 4);
        assert_eq!(terminal.write_log(b"log\n", false), 4);
        assert_eq!(terminal.write(b"two\n"), 4);
        assert_eq!(drained(&mut terminal), "one\r\nlog\r\ntwo\r\n");
    }

    #[test]
    fn the_log_goes_above_a_line_that_was_begun() {
        let mut terminal = Terminal::default();
        terminal.write(b"x\n\r\x1b[Kpks> ec");
        terminal.write_log(b"log\nmore\n", false);
        terminal.write(b"ho");
        let expected = "x\r\n\r\x1b[Kpks> ec\r\x1b[Klog\r\nmore\r\n\x1b[Kpks> echo";
        assert_eq!(drained(&mut terminal), expected);
        terminal.write_log(b"again\n", false);
        assert_eq!(drained(&mut terminal), "\r\x1b[Kagain\r\n\x1b[Kpks> echo");
    }

    #[test]
    fn only_whole_lines_of_the_log_are_taken() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.write_log(b"one\ntw", false), 4);
        assert_eq!(terminal.write_log(b"tw", false), 0);
        assert_eq!(terminal.write_log(b"tw", true), 2);
        assert_eq!(drained(&mut terminal), "one\r\ntw\r\n");
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_caller() {
        let mut terminal = Terminal::default();
        let text = [b'a'; 2 * LIMIT];
        let taken = terminal.write(&text);
        assert!(taken < LIMIT && taken > LIMIT - 4, "{taken}");
        assert!(!terminal.has_space());
        assert_eq!(terminal.write_log(b"log\n", false), 0);
        assert_eq!(drained(&mut terminal).len(), taken);
        assert_eq!(terminal.write_log(b"log\n", false), 4);
        assert!(terminal.has_space());
    }

    #[test]
    fn a_long_part_of_a_line_is_cut_not_kept_for_ever() {
        let mut terminal = Terminal::default();
        terminal.write(&[b'a'; 4000]);
        drained(&mut terminal);
        terminal.write_log(b"log\n", false);
        assert_eq!(drained(&mut terminal).len(), WIPE.len() + "log\r\n".len() + PART_LIMIT);
    }
}
