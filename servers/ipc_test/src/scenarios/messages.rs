//! What goes over with a call.

use alloc::vec::Vec;

use libpks::rt::{CapRights, Capability, Client, Error};

use super::refused;
use crate::crew::{Helper, Tools};
use crate::errand::{Errand, FULL, Reply, Request};
use crate::helper::cause;
use libpks::proto::pks_test::checks::{Checks, Run};

type Seen = &'static str;

pub(super) fn registers(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    for numbers in [[0, 1, 2, 3, 4, 5, 6, 7], [u16::MAX, 0x8000, 0, 9, 99, 999, 9999, 0x7fff]] {
        let expected = numbers.map(|number: u16| number.wrapping_add(1));
        checks.same(
            format_args!("numbers"),
            helper.ask(&Request::Add(numbers))?,
            Reply::Numbers(expected),
        )?;
    }
    Ok("eight numbers there and back, twice")
}

pub(super) fn full_buffer(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    for salt in [0_usize, 89] {
        let bytes: Vec<u8> = (0..FULL).map(|n| (n * 31 + salt) as u8).collect();
        let request = Request::Echo(bytes.clone());
        let Reply::Bytes(back) = helper.ask(&request)? else {
            return Err(Error::Malformed.into());
        };
        let same = back.iter().eq(bytes.iter().take(bytes.len() - 1));
        checks
            .that(same && back.len() == FULL - 1, format_args!("{} bytes came back changed", back.len()))?;
    }
    Ok("4096 bytes there and back, twice")
}

pub(super) fn badge(tools: &Tools, checks: &Checks) -> Run<Seen> {
    let helper = Helper::new(tools)?;
    checks.same(format_args!("without a badge"), helper.ask(&Request::Badge)?, Reply::Word(0))?;
    for badge in [1, 0xfeed_beef, u64::MAX] {
        let minted = helper.endpoint.mint(CapRights::CALL | CapRights::GRANT, badge)?;
        let client = Client::<Errand>::new(*minted);
        let seen = client.call(&Request::Badge).map_err(cause)?;
        checks.same(format_args!("badge"), seen, Reply::Word(badge))?;
        refused(checks, "another badge", minted.mint(CapRights::CALL, 5), Error::AlreadyBadged)?;
        let copy = minted.mint(CapRights::CALL, 0)?;
        let seen = Client::<Errand>::new(*copy).call(&Request::Badge).map_err(cause)?;
        checks.same(format_args!("badge of a copy"), seen, Reply::Word(badge))?;
        refused(
            checks,
            "more rights",
            copy.mint(CapRights::CALL | CapRights::SERVE, 0),
            Error::RightsExceeded,
        )?;
    }
    Ok("three badges, copied and not changed")
}
