//! The manifest's front end on whole files: the good ones compile to what they say, and each file
//! under `bad/` has one mistake and, in its first line, the place and the message to expect.

use std::path::{Path, PathBuf};

use image::manifest::{Mistake, load};
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS};
use libpks::cap::CapRights;
use libpks::manifest::{Backoff, Manifest, PortRange, PortValue, Powers, RestartPolicy, Tier};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn good(name: &str) -> Manifest {
    load(&folder("good").join(name)).unwrap_or_else(|mistake| panic!("{mistake}"))
}

/// The message without the folder: `unknown-power.toml:8: ...`.
fn shown(mistake: &Mistake) -> String {
    let folder = format!("{}/", folder("bad").display());
    mistake.to_string().replace(&folder, "")
}

#[test]
fn every_bad_file_gets_its_message() {
    let mut wrong = Vec::new();
    let files = std::fs::read_dir(folder("bad")).expect("a folder of bad files");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    assert!(files.len() > 50, "only {} bad files found", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let first = text.lines().next().unwrap_or_default();
        let expected = first.strip_prefix("# expect: ").expect("`# expect:` in the first line");
        let name = file.file_name().expect("a name").to_string_lossy();
        let expected = match expected.split_once(": ") {
            Some((line, message)) if line.parse::<u32>().is_ok() => format!("{name}:{line}: {message}"),
            _ if expected.starts_with("base/") => expected.to_owned(),
            _ => format!("{name}: {expected}"),
        };
        match load(&file) {
            Ok(_) => wrong.push(format!("{name} was accepted")),
            Err(mistake) if shown(&mistake) == expected => {}
            Err(mistake) => wrong.push(format!("expected {expected}\n     got {}", shown(&mistake))),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_full_system_compiles_to_what_it_says() {
    let manifest = good("system.toml");
    let names: Vec<_> = manifest.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["init", "console", "pks_test", "shell"]);

    let init = &manifest.servers[0];
    assert_eq!((init.priority, init.memory, init.stack), (200, 4 << 20, 64 << 10));
    assert_eq!((init.tier, init.restart, init.powers), (Tier::Keyed, RestartPolicy::Reboot, Powers::all()));

    let console = &manifest.servers[1];
    assert_eq!(
        (console.ports.as_slice(), console.irqs.as_slice()),
        ([PortRange { from: 0x3f8, to: 0x3ff }].as_slice(), [4].as_slice())
    );
    assert_eq!((console.budget.ns(), console.budget.every_ns()), (20_000_000, 200_000_000));
    assert_eq!(console.overrun_ns, 1_500_000_000);
    assert_eq!((init.budget, init.overrun_ns), (Budget::DEFAULT, OVERRUN_DEFAULT_NS));
    assert_eq!((console.activations, console.powers), (1, Powers::empty()));

    assert_eq!(console.backoff, Backoff { first_ms: 0, longest_ms: 2000 });
    assert_eq!(console.quiesce, [PortValue { port: 0x3f9, value: 0 }]);
    assert_eq!((init.backoff, init.quiesce.len()), (Backoff { first_ms: 100, longest_ms: 5000 }, 0));

    let test = &manifest.servers[2];
    assert_eq!((test.activations, test.powers), (2, Powers::SELF_TEST | Powers::KEY_POOL));

    let shell = &manifest.servers[3];
    let uses: Vec<_> = shell.uses.iter().map(|it| (it.endpoint.as_str(), it.badge, it.rights)).collect();
    let call = CapRights::CALL;
    assert_eq!(
        uses,
        [("console", 0, call), ("supervisor", 7, call | CapRights::GRANT), ("pks_test", 0, call)]
    );
    assert_eq!(shell.args, "prompt");
    let bytes = manifest.encode(&[]).expect("encodes");
    assert_eq!(Manifest::decode(&bytes).expect("decodes"), manifest);
}

#[test]
fn an_extending_file_adds_its_servers_at_the_end() {
    let (base, extended) = (good("system.toml"), good("test.toml"));
    assert_eq!(extended.servers[..4], base.servers[..]);
    let link = &extended.servers[4];
    assert_eq!((link.name.as_str(), link.image.as_str()), ("testlink", "link"));
}

#[test]
fn a_marked_circle_is_allowed() {
    assert_eq!(good("marked-cycle.toml").servers.len(), 3);
}

#[test]
fn what_is_optional_is_left_out_where_nobody_provides_it() {
    let manifest = good("optional.toml");
    let uses =
        |n: usize| manifest.servers[n].uses.iter().map(|used| used.endpoint.as_str()).collect::<Vec<_>>();
    assert_eq!((uses(0), uses(1)), (vec![], vec!["supervisor"]));
}

#[test]
fn the_projects_own_manifests_are_good() {
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifests = std::fs::read_dir(boot).expect("boot/").map(|entry| entry.expect("an entry").path());
    let manifests: Vec<_> =
        manifests.filter(|file| file.extension().is_some_and(|it| it == "toml")).collect();
    assert!(!manifests.is_empty());
    for manifest in manifests {
        load(&manifest).unwrap_or_else(|mistake| panic!("{mistake}"));
    }
}
