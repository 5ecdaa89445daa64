//! The rules of CPU time, one by one.

use libpks::budget::{Account, Budget, BudgetError, CallTime, Share, Standing, Turn, elapsed_ns};

const MS: u64 = 1_000_000;

fn budget(ms: u64, every_ms: u64) -> Budget {
    Budget::new(ms * MS, every_ms * MS).expect("a budget")
}

#[test]
fn impossible_budgets_are_refused() {
    for (ns, every_ns) in [(MS, 0), (MS, 10 * MS - 1), (MS, 60_000 * MS + 1), (0, u64::MAX)] {
        assert_eq!(Budget::new(ns, every_ns), Err(BudgetError::Period), "{ns} every {every_ns}");
    }
    for (ns, every_ns) in [(0, 10 * MS), (MS - 1, 10 * MS), (10 * MS + 1, 10 * MS), (u64::MAX, 10 * MS)] {
        assert_eq!(Budget::new(ns, every_ns), Err(BudgetError::Time), "{ns} every {every_ns}");
    }
    let bytes = postcard::to_allocvec(&(3_u64, 7_u64)).expect("encodes");
    assert!(postcard::from_bytes::<Budget>(&bytes).is_err(), "decoding must not get around the limits");
}

#[test]
fn shares_round_up_and_never_exceed_what_there_is() {
    assert_eq!(budget(10, 100).share(), budget(100, 1000).share());
    // 333.3 and 333.9 millionths.
    assert_eq!(budget(1, 3000).share(), budget(1, 2995).share());
    assert_eq!(Share::TOTAL.plus(budget(1, 10_000).share()), None);
    let mut sum = Share::NONE;
    let mut fitting = 0;
    while let Some(more) = sum.plus(Budget::DEFAULT.share()) {
        (sum, fitting) = (more, fitting + 1);
    }
    assert_eq!((sum, fitting), (Share::TOTAL, 95));
    assert_eq!(Share::NONE.minus(Budget::DEFAULT.share()), None);
    assert_eq!(Share::TOTAL.to_string(), "95 %");
    assert_eq!(budget(1, 1001).share().to_string(), "1 %");
}

#[test]
fn a_budget_is_used_up_once_and_comes_back() {
    let mut account = Account::new(budget(10, 100), 0);
    assert_eq!(account.charge(9 * MS, Standing::AtPriority), Turn::Same);
    assert_eq!((account.left_ns(), account.is_depleted()), (MS, false));
    assert_eq!(account.charge(MS, Standing::AtPriority), Turn::Depleted);
    assert_eq!(account.charge(MS, Standing::AtPriority), Turn::Same, "depleted already");
    assert_eq!(account.renew(100 * MS - 1), Turn::Same);
    assert_eq!(account.next_budget_at(), 100 * MS);
    assert_eq!(account.renew(100 * MS), Turn::Renewed);
    assert_eq!(account.left_ns(), 9 * MS, "what was used too much is taken from the next budget");
    let time = account.time();
    assert_eq!((time.used_ns, time.background_ns, time.depletions, time.renewals), (11 * MS, 0, 1, 1));
}

#[test]
fn the_background_costs_nothing_and_is_counted() {
    let mut account = Account::new(budget(1, 10), 0);
    assert_eq!(account.charge(500 * MS, Standing::InBackground), Turn::Same);
    assert_eq!(account.left_ns(), MS);
    assert_eq!((account.time().used_ns, account.time().background_ns), (500 * MS, 500 * MS));
}

#[test]
fn what_is_not_used_is_not_saved_up() {
    let mut account = Account::new(budget(10, 100), 0);
    assert_eq!(account.renew(10_000 * MS), Turn::Same);
    assert_eq!(account.left_ns(), 10 * MS);
}

#[test]
fn a_debt_is_paid_before_there_is_a_budget_again() {
    let mut account = Account::new(budget(10, 100), 0);
    assert_eq!(account.charge(35 * MS, Standing::AtPriority), Turn::Depleted);
    assert_eq!(account.next_budget_at(), 300 * MS);
    assert_eq!((account.renew(100 * MS), account.renew(200 * MS)), (Turn::Same, Turn::Same));
    assert_eq!(account.renew(300 * MS), Turn::Renewed);
    assert_eq!(account.left_ns(), 5 * MS);
}

#[test]
fn a_machine_that_stood_still_is_not_paid_for() {
    assert_eq!(
        [(3, 7), (0, 1_999 * MS), (0, u64::MAX), (7, 3)].map(|(from, to)| elapsed_ns(from, to)),
        [4, 1_999 * MS, 2_000 * MS, 0]
    );
}

#[test]
fn no_number_is_too_large() {
    let mut account = Account::new(budget(10, 100), u64::MAX - 5);
    assert_eq!(account.charge(u64::MAX, Standing::AtPriority), Turn::Depleted);
    assert_eq!(account.charge(u64::MAX, Standing::AtPriority), Turn::Same);
    assert_eq!((account.next_budget_at(), account.left_ns()), (u64::MAX, 0));
    let _ = account.renew(u64::MAX);
    assert_eq!(account.time().used_ns, u64::MAX);
}

#[test]
fn a_call_keeps_the_standing_with_which_it_began() {
    let mut account = Account::new(budget(10, 100), 0);
    let [paid, unpaid] = [Standing::AtPriority, Standing::InBackground].map(CallTime::begin);
    assert_eq!(unpaid.standing(Some(&account)), Standing::AtPriority, "there is a budget");
    let _ = account.charge(10 * MS, Standing::AtPriority);
    assert_eq!(paid.standing(Some(&account)), Standing::AtPriority, "it ran out in the middle");
    assert_eq!(unpaid.standing(Some(&account)), Standing::InBackground);
    assert_eq!(paid.standing(None), Standing::InBackground, "nobody pays");
}

#[test]
fn an_overrun_ends() {
    let mut call = CallTime::begin(Standing::AtPriority);
    assert_eq!(call.left_of(3), Some(3));
    call.go_beyond(2);
    assert_eq!(call.left_of(3), Some(1));
    call.go_beyond(1);
    assert_eq!((call.left_of(3), call.left_of(4)), (None, Some(1)));
    call.go_beyond(u64::MAX);
    assert_eq!(call.left_of(u64::MAX), None);
}
