//! An account against one that goes through every millisecond.

use libpks::budget::{Account, Budget, Standing, Turn};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A thread runs, and time passes.
    Run { ms: u64, standing: Standing },
    /// Several run at once, on as many CPUs.
    RunTogether { ms: u64, cpus: u64 },
    /// Nobody runs.
    Rest { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let standing = prop_oneof![Just(Standing::AtPriority), Just(Standing::InBackground)];
    prop_oneof![
        6 => (0_u64..40, standing).prop_map(|(ms, standing)| Step::Run { ms, standing }),
        2 => (0_u64..40, 2_u64..5).prop_map(|(ms, cpus)| Step::RunTogether { ms, cpus }),
        3 => (0_u64..400).prop_map(|ms| Step::Rest { ms }),
    ]
}

/// Budgets and time, in whole milliseconds.
#[derive(Clone, Copy)]
struct Model {
    budget: i128,
    period: u64,
    now: u64,
    left: i128,
    used: u64,
    background: u64,
    depletions: u64,
    renewals: u64,
    /// Budgets that were given out.
    given: i128,
}

impl Model {
    fn new(ms: u64, period: u64) -> Self {
        let budget = i128::from(ms);
        Self {
            budget,
            period,
            now: 0,
            left: budget,
            used: 0,
            background: 0,
            depletions: 0,
            renewals: 0,
            given: budget,
        }
    }

    /// Time passes; at the end of each period there is another budget, and never more than one.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            if self.now.is_multiple_of(self.period) {
                let was_empty = self.left <= 0;
                self.left = self.budget.min(self.left + self.budget);
                self.given += self.budget;
                self.renewals += u64::from(was_empty && self.left > 0);
            }
        }
    }

    fn charge(&mut self, ms: u64, standing: Standing) {
        self.used += ms;
        if standing == Standing::InBackground {
            self.background += ms;
            return;
        }
        let was_empty = self.left <= 0;
        self.left -= i128::from(ms);
        self.depletions += u64::from(!was_empty && self.left <= 0);
    }

    /// When there will be something, tried out.
    fn next_budget_at(mut self) -> u64 {
        loop {
            self.pass(1);
            if self.now.is_multiple_of(self.period) && self.left > 0 {
                return self.now;
            }
        }
    }
}

/// Both agree, and nobody has had more than was given out but for the debt.
fn compare(account: &Account, model: &Model) -> Result<(), TestCaseError> {
    let time = account.time();
    prop_assert_eq!(account.is_depleted(), model.left <= 0);
    prop_assert_eq!(i128::from(account.left_ns()), model.left.max(0) * i128::from(MS));
    prop_assert_eq!((time.used_ns, time.background_ns), (model.used * MS, model.background * MS));
    prop_assert_eq!((time.depletions, time.renewals), (model.depletions, model.renewals));
    prop_assert!(time.renewals <= time.depletions && time.depletions <= time.renewals + 1);
    prop_assert_eq!(account.next_budget_at(), model.next_budget_at() * MS);
    let at_priority = i128::from(model.used - model.background);
    prop_assert!(at_priority + model.left <= model.given, "more was used than there was");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 500 }, ..ProptestConfig::default() })]

    #[test]
    fn an_account_does_what_the_model_does(
        period in 10_u64..200,
        part in 1_u64..=100,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let ms = (period * part / 100).max(1);
        let budget = Budget::new(ms * MS, period * MS).expect("a budget");
        let (mut account, mut model) = (Account::new(budget, 0), Model::new(ms, period));
        for step in steps {
            let (ms, charges, standing) = match step {
                Step::Run { ms, standing } => (ms, 1, standing),
                Step::RunTogether { ms, cpus } => (ms, cpus, Standing::AtPriority),
                Step::Rest { ms } => (ms, 0, Standing::AtPriority),
            };
            let was_depleted = account.is_depleted();
            model.pass(ms);
            let renewed = account.renew(model.now * MS) == Turn::Renewed;
            prop_assert_eq!(renewed, was_depleted && !account.is_depleted());
            compare(&account, &model)?;
            for _ in 0..charges {
                model.charge(ms, standing);
                let was_depleted = account.is_depleted();
                let depleted = account.charge(ms * MS, standing) == Turn::Depleted;
                prop_assert_eq!(depleted, !was_depleted && account.is_depleted());
                compare(&account, &model)?;
            }
        }
    }
}
