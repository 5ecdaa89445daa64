//! Why a command did not do what it should.

use alloc::string::String;
use libpks::rt::{CallError, EnvError, Error};

/// What is printed instead of a result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The manifest does not give the shell what the command needs.
    #[error("{0}")]
    Env(#[from] EnvError),
    /// The kernel refused.
    #[error("{0}")]
    Kernel(#[from] Error),
    /// A server did not answer as it should.
    #[error("{0}")]
    Call(#[from] CallError),
    /// A server refused.
    #[error("{0}")]
    Refused(String),
    /// A server answered something else.
    #[error("the server answered something else")]
    OtherReply,
    /// An attack could not be judged.
    #[error("{0}")]
    Judge(#[from] libpks::proto::adversary::judge::Failure),
    /// No attack has that name.
    #[error("no attack is called `{0}`; `attack list` lists them")]
    UnknownAttack(String),
    /// No domain has that name.
    #[error("no domain is called `{0}`")]
    UnknownDomain(String),
}
