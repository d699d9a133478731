//! Any text of /proc/PID/cgroup: a container that is found in it has a whole id, and stands where the text says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spiffe_bridge::attest::cgroup::Cgroups;
use spiffe_bridge::attest::container;

fuzz_target!(|text: &str| {
    let Some(cgroups) = Cgroups::parse(text) else { return };
    let printed: String = (cgroups.places().iter().enumerate())
        .map(|(n, place)| format!("{n}:{}:{}\n", place.hierarchy, place.path))
        .collect();
    assert_eq!(Cgroups::parse(&printed).as_ref(), Some(&cgroups));
    let Ok(Some(named)) = container::named(&cgroups) else { return };
    assert!(named.id.len() == 64 && named.id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    assert!(!named.places.is_empty());
    for own in &named.places {
        let whole = cgroups.places().iter().find(|place| place.hierarchy == own.hierarchy).unwrap();
        let below = whole.path.strip_prefix(&own.path).unwrap();
        assert!(below.is_empty() || below.starts_with('/'));
        assert!(own.path.contains(&named.id));
        // What is named of the container's own cgroup is the container again: deeper names say nothing.
        let alone = Cgroups::parse(&format!("0:{}:{}\n", own.hierarchy, own.path)).unwrap();
        assert_eq!(container::named(&alone).unwrap().unwrap().id, named.id);
    }
});
