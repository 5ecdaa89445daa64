//! Who is put into one view.

use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
use libpks::cap::CapRights;
use libpks::manifest::{Backoff, Manifest, Powers, RestartPolicy, ServerEntry, Tier, Use};
use libpks::placement::views;
use proptest::prelude::*;

/// A server that serves an endpoint of its own name and calls these.
fn server(number: usize, tier: Tier, calls: &[usize]) -> ServerEntry {
    let name = |number: usize| format!("s{number}");
    let uses = calls.iter().map(|&other| Use { endpoint: name(other), badge: 0, rights: CapRights::CALL });
    ServerEntry {
        name: name(number),
        image: name(number),
        priority: 1,
        tier,
        memory: 4096,
        stack: 4096,
        budget: Budget::DEFAULT,
        overrun_ns: OVERRUN_DEFAULT_NS,
        activations: 1,
        restart: RestartPolicy::Stop,
        provides: vec![name(number)],
        uses: uses.collect(),
        ports: vec![],
        irqs: vec![],
        powers: Powers::empty(),
        args: String::new(),
        backoff: Backoff::default(),
        quiesce: vec![],
    }
}

fn manifest(servers: &[(Tier, &[usize])]) -> Manifest {
    let entry = |(number, &(tier, calls)): (usize, &(Tier, &[usize]))| server(number, tier, calls);
    Manifest { servers: servers.iter().enumerate().map(entry).collect() }
}

const K: Tier = Tier::Keyed;

#[test]
fn who_calls_whom_is_together() {
    // Two services with two clients each, and room for three.
    let system = manifest(&[(K, &[]), (K, &[]), (K, &[]), (K, &[1]), (K, &[2]), (K, &[1]), (K, &[2])]);
    assert_eq!(views(&system, 3), [0, 1, 2, 1, 2, 1, 2]);
    // With room for all there is one view.
    assert_eq!(views(&system, 7), [0; 7]);
    // The third client finds no room with its service, and goes where there is some.
    let system = manifest(&[(K, &[]), (K, &[]), (K, &[1]), (K, &[1]), (K, &[1])]);
    assert_eq!(views(&system, 3), [0, 1, 1, 1, 0]);
}

#[test]
fn whoever_has_a_view_of_its_own_is_alone_there() {
    let system = manifest(&[(K, &[]), (Tier::OwnView, &[0]), (K, &[1]), (Tier::OwnView, &[])]);
    assert_eq!(views(&system, 11), [0, 1, 0, 2]);
    assert_eq!(views(&manifest(&[]), 11), []);
    let system = manifest(&[(Tier::OwnView, &[]), (K, &[0])]);
    assert_eq!(views(&system, 11), [0, 1], "also the first");
}

proptest! {
    #[test]
    fn no_view_has_more_than_there_is_room(
        servers in prop::collection::vec(
            (prop::bool::weighted(0.2), prop::collection::vec(0_usize..20, 0..5)), 1..20
        ),
        room in 1_usize..12,
    ) {
        let tier = |own| if own { Tier::OwnView } else { K };
        let entries: Vec<(Tier, &[usize])> =
            servers.iter().map(|(own, calls)| (tier(*own), &**calls)).collect();
        let placed = views(&manifest(&entries), room);
        prop_assert_eq!(placed.len(), servers.len());
        prop_assert_eq!(placed[0], 0);
        for (view, (own, _)) in placed.iter().zip(&servers) {
            let size = placed.iter().filter(|other| *other == view).count();
            let most = if *own { 1 } else { room };
            prop_assert!(size <= most, "{size} in a view for {most}");
        }
        // Numbers have no gaps, so there are no empty views.
        let highest = placed.iter().max().copied().unwrap_or(0);
        prop_assert!((0..=highest).all(|view| placed.contains(&view)));
    }
}
