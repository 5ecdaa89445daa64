//! Names of tests: `PACKAGE/TARGET::NAME`, such as `tests/system::adversary_cpus1::read_after_loan`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A test and the harness that has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TestName {
    /// Which harness.
    pub harness: Harness,
    /// The test's name within it.
    pub name: String,
}

/// A test target of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Harness {
    /// The package.
    pub package: String,
    /// `lib` for the unit tests of its library, else the name of the integration test.
    pub target: String,
}

impl Harness {
    /// Whether it boots the system rather than testing code of its own package: it is then built from the sound tree.
    #[must_use]
    pub fn boots(&self) -> bool {
        self.package == "tests"
    }
}

/// A name does not say which harness has the test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no harness in `{0}`: it is PACKAGE/TARGET::NAME")]
pub struct NoHarness(String);

impl FromStr for TestName {
    type Err = NoHarness;

    fn from_str(text: &str) -> Result<Self, NoHarness> {
        let parts = text.split_once("::").and_then(|(harness, name)| Some((harness.split_once('/')?, name)));
        match parts {
            Some(((package, target), name)) if ![package, target, name].contains(&"") => {
                let harness = Harness { package: package.into(), target: target.into() };
                Ok(Self { harness, name: name.into() })
            }
            _ => Err(NoHarness(text.into())),
        }
    }
}

impl TryFrom<String> for TestName {
    type Error = NoHarness;

    fn try_from(text: String) -> Result<Self, NoHarness> {
        text.parse()
    }
}

impl fmt::Display for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.package, self.target)
    }
}

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.harness, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_harness() {
        let name: TestName = "libpks/pure::cap_rules::rights_only_shrink".parse().expect("a name");
        assert_eq!((name.harness.package.as_str(), name.harness.target.as_str()), ("libpks", "pure"));
        assert_eq!(name.name, "cap_rules::rights_only_shrink");
        assert!(!name.harness.boots());
        for bad in ["", "x", "a::b", "a/b", "/b::c", "a/::c", "a/b::"] {
            assert_eq!(bad.parse::<TestName>(), Err(NoHarness(bad.into())));
        }
    }
}
