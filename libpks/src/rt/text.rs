//! Formatting into a string of fixed size: what does not fit is cut.
#![forbid(unsafe_code)]

use core::fmt::{Arguments, Error, Result, Write};
use heapless::String;

struct Cut<'a, const N: usize>(&'a mut String<N>);

impl<const N: usize> Write for Cut<'_, N> {
    fn write_str(&mut self, text: &str) -> Result {
        text.chars().try_for_each(|c| self.0.push(c).map_err(|_| Error))
    }
}

/// Formats as many characters as `N` bytes hold.
pub fn cut<const N: usize>(arguments: Arguments<'_>) -> String<N> {
    let mut text = String::new();
    // The only error is that the string is full, and then it is cut.
    let _ = Cut(&mut text).write_fmt(arguments);
    text
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn what_does_not_fit_is_cut_between_characters() {
        assert_eq!(cut::<4>(format_args!("{}-{}", 12, 345)), "12-3");
        assert_eq!(cut::<3>(format_args!("aéb")), "aé");
        assert_eq!(cut::<2>(format_args!("aéb")), "a");
    }
}
