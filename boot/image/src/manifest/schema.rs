//! The manifest's TOML shape. Values keep their place in the file for messages.

use libpks::manifest::{RestartPolicy, Tier};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) extends: Option<Spanned<String>>,
    pub(super) kind: Option<Kind>,
    #[serde(default)]
    pub(super) server: Vec<Server>,
}

/// What a system is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Plain,
    Demo,
    Test,
}

/// A `[[server]]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) name: Spanned<String>,
    pub(super) image: Option<Spanned<String>>,
    pub(super) priority: Spanned<i64>,
    #[serde(default = "keyed")]
    pub(super) tier: Tier,
    pub(super) memory: Spanned<String>,
    pub(super) stack: Spanned<String>,
    pub(super) budget: Option<Spanned<Time>>,
    pub(super) overrun_ms: Option<Spanned<i64>>,
    pub(super) activations: Option<Spanned<i64>>,
    pub(super) restart: RestartPolicy,
    #[serde(default)]
    pub(super) provides: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) uses: Vec<Spanned<Use>>,
    #[serde(default)]
    pub(super) ports: Vec<Spanned<Ports>>,
    #[serde(default)]
    pub(super) irqs: Vec<Spanned<i64>>,
    #[serde(default)]
    pub(super) powers: Vec<Spanned<String>>,
    pub(super) args: Option<Spanned<String>>,
    pub(super) backoff: Option<Spanned<Backoff>>,
    #[serde(default)]
    pub(super) quiesce: Vec<Spanned<PortValue>>,
}

/// `{ first = "100 ms", longest = "5 s" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backoff {
    pub(super) first: Spanned<String>,
    pub(super) longest: Spanned<String>,
}

/// `{ port = 0x3f9, value = 0 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortValue {
    pub(super) port: i64,
    pub(super) value: i64,
}

fn keyed() -> Tier {
    Tier::Keyed
}

/// `{ ms = 10, every_ms = 100 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Time {
    pub(super) ms: i64,
    pub(super) every_ms: i64,
}

/// `{ from = 0x3f8, to = 0x3ff }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// `"console"`, or `{ endpoint = "console", badge = 7, rights = ["call"], cycle = true, optional = true }`.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) endpoint: String,
    pub(super) badge: i64,
    pub(super) rights: Vec<String>,
    pub(super) cycle: bool,
    /// It is left out where nobody provides the endpoint.
    pub(super) optional: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UseTable {
    endpoint: String,
    #[serde(default)]
    badge: i64,
    #[serde(default = "call_only")]
    rights: Vec<String>,
    #[serde(default)]
    cycle: bool,
    #[serde(default)]
    optional: bool,
}

fn call_only() -> Vec<String> {
    vec!["call".to_owned()]
}

impl<'de> Deserialize<'de> for Use {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not an untagged enum: its errors would not say which field is wrong.
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Use;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an endpoint's name, or a table { endpoint, badge, rights, cycle, optional }")
            }

            fn visit_str<E>(self, name: &str) -> Result<Use, E> {
                Ok(Use {
                    endpoint: name.to_owned(),
                    badge: 0,
                    rights: call_only(),
                    cycle: false,
                    optional: false,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Use, A::Error> {
                let UseTable { endpoint, badge, rights, cycle, optional } =
                    UseTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Use { endpoint, badge, rights, cycle, optional })
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}
