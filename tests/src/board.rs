//! Runs sessions side by side, as many as the host has cores, and hands their results to whoever waits for one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::session::{self, Failed, Session};

/// The results of all sessions.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Cores that no session has.
    cores: usize,
    sessions: HashMap<String, Session>,
}

/// A plan and the names of the exercises that are wanted of it.
#[derive(Debug)]
pub struct Job {
    /// The plan.
    pub plan: Plan,
    /// The wanted exercises.
    pub wanted: Vec<String>,
}

impl Board {
    /// Starts the jobs as `cores` allow: a plan takes its weight of them, or all that there are. The heaviest come
    /// first, those of one weight in their order: so no core waits for a heavy job while light ones are left.
    #[must_use]
    pub fn start(mut jobs: Vec<Job>, cores: usize) -> Arc<Self> {
        let cores = cores.max(1);
        jobs.sort_by_key(|job| Reverse(job.plan.cores(cores)));
        let state = Mutex::new(State { cores, sessions: HashMap::new() });
        let board = Arc::new(Self { state, changed: Condvar::new() });
        let starter = Arc::clone(&board);
        thread::spawn(move || {
            for job in jobs.into_iter().filter(|job| !job.wanted.is_empty()) {
                let weight = job.plan.cores(cores);
                starter.take(weight);
                let board = Arc::clone(&starter);
                thread::spawn(move || board.run(&job, weight));
            }
        });
        board
    }

    /// Waits for the result of an exercise.
    ///
    /// # Errors
    /// What made it fail; also when it was not among the wanted.
    pub fn wait(&self, plan: &str, exercise: &str) -> session::Result {
        let result = |session: &Session| session.results.get(exercise).cloned();
        self.when_done(plan, result).unwrap_or_else(|| Err(broken("it was not run")))
    }

    /// Waits for the end of a plan of which something was wanted.
    #[must_use]
    pub fn session(&self, plan: &str) -> Session {
        self.when_done(plan, Session::clone)
    }

    fn when_done<T>(&self, plan: &str, take: impl Fn(&Session) -> T) -> T {
        let mut state = self.lock();
        loop {
            if let Some(session) = state.sessions.get(plan) {
                return take(session);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, job: &Job, weight: usize) {
        let wanted = |name: &str| job.wanted.iter().any(|wanted| wanted == name);
        let conducted = catch_unwind(AssertUnwindSafe(|| session::conduct(&job.plan, wanted)));
        let session = conducted.unwrap_or_else(|_| Session {
            results: job.wanted.iter().map(|name| (name.clone(), Err(broken("it panicked")))).collect(),
            ..Session::default()
        });
        let mut state = self.lock();
        state.cores += weight;
        state.sessions.insert(job.plan.name.clone(), session);
        self.changed.notify_all();
    }

    fn take(&self, weight: usize) {
        let mut state = self.lock();
        while state.cores < weight {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.cores -= weight;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(what: &str) -> Failed {
    Failed { failure: Failure::Wrong(format!("the harness is broken: {what}")), log: String::new() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::plan::{Ending, Exercise};

    /// A plan that does not boot, after a while in which it counts itself as running.
    fn job(name: &str, weight: usize, running: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>) -> Job {
        let (running, most) = (Arc::clone(running), Arc::clone(most));
        let boot_fn = Box::new(move || {
            let now = running.fetch_add(weight, Ordering::SeqCst) + weight;
            most.fetch_max(now, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(30));
            running.fetch_sub(weight, Ordering::SeqCst);
            anyhow::bail!("no machine")
        });
        let mut plan = Plan::new(name, boot_fn, Ending::Closing, vec![Exercise::new("x", |_| Ok(()))]);
        plan.weight = weight;
        Job { plan, wanted: vec!["x".into()] }
    }

    #[test]
    fn boots_share_the_cores_and_every_result_arrives() {
        let (running, most) = (Arc::default(), Arc::default());
        let jobs = (0..6).map(|n| job(&n.to_string(), 1 + n % 3, &running, &most)).collect();
        let board = Board::start(jobs, 3);
        for n in 0..6 {
            let failed = board.wait(&n.to_string(), "x").expect_err("does not boot");
            assert_eq!(failed.failure, Failure::NotBooted("no machine".into()));
        }
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert!(board.wait("0", "y").is_err(), "what was not wanted has no result");
    }

    #[test]
    fn the_heaviest_come_first_and_then_it_is_their_order() {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let jobs = [("a", 1), ("b", 4), ("c", 1), ("d", 2)].map(|(name, weight)| {
            let begun = Arc::clone(&begun);
            let boot_fn = Box::new(move || {
                begun.lock().expect("not poisoned").push(name);
                anyhow::bail!("no machine")
            });
            let mut plan = Plan::new(name, boot_fn, Ending::Closing, vec![Exercise::new("x", |_| Ok(()))]);
            plan.weight = weight;
            Job { plan, wanted: vec!["x".into()] }
        });
        let board = Board::start(jobs.into(), 2);
        for name in ["a", "b", "c", "d"] {
            let session = board.session(name);
            assert_eq!((session.results.len(), session.boots), (1, 1));
        }
        let begun = begun.lock().expect("not poisoned");
        // Those of two cores one after the other; the light ones side by side.
        assert_eq!(begun[..2], ["b", "d"]);
    }

    #[test]
    fn a_panic_is_a_failure_and_not_a_hang() {
        let (running, most) = (Arc::default(), Arc::default());
        let mut job = job("p", 1, &running, &most);
        job.plan.boot_fn = Box::new(|| panic!("on purpose"));
        assert!(Board::start(vec![job], 1).wait("p", "x").is_err());
    }
}
