//! Jumps to a WRMSR of PKRS with a word that closes every key, key 0 too.

use super::{Crime, crimes};
use crate::abi::fault::FaultKind;
use crate::abi::inspect::PlaceKind;

crimes! {
    "close_key_0": "jump to every WRMSR of the ways in with a word that closes key 0",
        Places(PlaceKind::TakesWord) => Ends(FaultKind::GateAbuse), Binary [Gate TrapFrame],
        "what the CPU uses in a trap is in pages that no key reaches";
    "close_key_0_at_exit": "the same at the ways out",
        Places(PlaceKind::GivesWord) => Ends(FaultKind::GateAbuse), Binary [Gate TrapFrame],
        "the same";
}
