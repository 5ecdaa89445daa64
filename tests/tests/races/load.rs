//! Every thread has the word that its books give it, however many CPUs there are.

use anyhow::{Result, bail, ensure};
use libpks::abi::name;
use libpks::proto::pks_test::Verdict;
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{PATIENT, boot, close};

/// How often the scenario runs in each boot.
const TIMES: usize = 3;

#[test]
fn words_are_right_under_load_on_1_2_4_and_8_cpus() -> Result<()> {
    for cpus in [1, 2, 4, 8] {
        let (guest, mut running) = boot(cpus)?;
        for _ in 0..TIMES {
            let reply = running.link.ask(&Request::Run { name: name("M2_load") }, PATIENT)?;
            let Reply::Outcome(outcome) = reply else { bail!("not an outcome: {reply:?}") };
            ensure!(outcome.verdict == Verdict::Pass, "{cpus} CPUs: {outcome:?}");
            ensure!(outcome.seen.contains(&format!("on {cpus} CPUs")), "not {cpus} CPUs: {}", outcome.seen);
        }
        close(running)?;
        drop(guest);
    }
    Ok(())
}
