//! The kernel's command line and the arguments of a domain: words `key=value` with spaces between them.
#![forbid(unsafe_code)]

/// The key whose value is the rest of the line.
const REST_OF_LINE: &str = "cmd";

/// The value of `key`; `None` if no word gives one. The first such word counts.
///
/// A word without `=` has the empty value. The value of `cmd` is everything up to the end of the line, so nothing
/// behind `cmd=` is read as a word of its own.
pub fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let (name, text) = word.split_once('=').unwrap_or((word, ""));
        let is_last = name == REST_OF_LINE && word.len() > name.len();
        if name == key {
            return Some(if is_last { rest.get(name.len() + 1..).unwrap_or("") } else { text });
        }
        if is_last {
            return None;
        }
        rest = behind.trim_start();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn words_are_found_by_their_key() {
        let line = "test  console=com1 quiet test=2";
        assert_eq!(value(line, "console"), Some("com1"));
        assert_eq!(value(line, "test"), Some(""));
        assert_eq!(value(line, "quiet"), Some(""));
        assert_eq!(value(line, "com1"), None);
        assert_eq!(value("", "test"), None);
    }

    #[test]
    fn cmd_takes_the_rest_of_the_line() {
        let line = "test=1 cmd=echo a=b; test=2 domains";
        assert_eq!(value(line, "cmd"), Some("echo a=b; test=2 domains"));
        assert_eq!(value(line, "test"), Some("1"));
        assert_eq!(value(line, "a"), None);
        assert_eq!(value("cmd=", "cmd"), Some(""));
        assert_eq!(value("cmd test=2", "test"), Some("2"));
    }
}
