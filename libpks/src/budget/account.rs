//! What a domain has left of its budget.

use super::{Budget, CpuTime, Standing};

/// What a charge or the passing of time has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Turn {
    /// Nothing that matters: there was a budget and is one, or there was none and is none.
    Same,
    /// The budget is used up now.
    Depleted,
    /// There is a budget again.
    Renewed,
}

/// The account of a domain. Time used at priority is taken from the budget, also beyond its end: such a debt is paid off
/// with the next budgets, so that in the long run nobody has more than its share. Time used in the background is counted
/// and costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    budget: Budget,
    /// What is left, in nanoseconds; a debt below 0.
    left: i64,
    /// When the next budget comes.
    renews_at: u64,
    used_ns: u64,
    background_ns: u64,
    depletions: u64,
    renewals: u64,
}

impl Account {
    /// An account that is full, at `now` (nanoseconds, like all times here).
    #[must_use]
    pub const fn new(budget: Budget, now: u64) -> Self {
        Self {
            budget,
            left: budget.ns() as i64,
            renews_at: now.saturating_add(budget.every_ns()),
            used_ns: 0,
            background_ns: 0,
            depletions: 0,
            renewals: 0,
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_depleted(&self) -> bool {
        self.left <= 0
    }

    /// What is left; 0 if there is a debt.
    #[must_use]
    pub const fn left_ns(&self) -> u64 {
        if self.left > 0 { self.left as u64 } else { 0 }
    }

    /// What was used.
    #[must_use]
    pub const fn time(&self) -> CpuTime {
        CpuTime {
            used_ns: self.used_ns,
            background_ns: self.background_ns,
            left_ns: self.left_ns(),
            depletions: self.depletions,
            renewals: self.renewals,
        }
    }

    /// Takes the time that a thread of that standing has run.
    pub const fn charge(&mut self, ns: u64, standing: Standing) -> Turn {
        self.used_ns = self.used_ns.saturating_add(ns);
        match standing {
            Standing::InBackground => {
                self.background_ns = self.background_ns.saturating_add(ns);
                Turn::Same
            }
            Standing::AtPriority => {
                let was_depleted = self.is_depleted();
                self.left = self.left.saturating_sub_unsigned(ns);
                if was_depleted || !self.is_depleted() {
                    return Turn::Same;
                }
                self.depletions = self.depletions.saturating_add(1);
                Turn::Depleted
            }
        }
    }

    /// Adds the budgets of all periods that have begun up to `now`. What was not used of earlier ones is lost.
    pub const fn renew(&mut self, now: u64) -> Turn {
        if now < self.renews_at {
            return Turn::Same;
        }
        let was_depleted = self.is_depleted();
        let periods = (now - self.renews_at) / self.budget.every_ns() + 1;
        self.renews_at = self.renews_at.saturating_add(periods.saturating_mul(self.budget.every_ns()));
        let added = periods.saturating_mul(self.budget.ns());
        let added = if added < i64::MAX as u64 { added as i64 } else { i64::MAX };
        let full = self.budget.ns() as i64;
        let left = self.left.saturating_add(added);
        self.left = if left < full { left } else { full };
        if !was_depleted || self.is_depleted() {
            return Turn::Same;
        }
        self.renewals = self.renewals.saturating_add(1);
        Turn::Renewed
    }

    /// When something will be left again, if nothing more is charged. For an account that is not depleted that is when
    /// its next budget comes.
    #[must_use]
    pub const fn next_budget_at(&self) -> u64 {
        let debt = if self.left < 0 { self.left.unsigned_abs() } else { 0 };
        // With so many whole budgets it is paid off, and the one behind them is there to be used.
        self.renews_at.saturating_add((debt / self.budget.ns()).saturating_mul(self.budget.every_ns()))
    }
}
