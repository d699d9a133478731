//! `systemd:` selectors: the unit that a process is of, in SPIRE's spelling.
//!
//! systemd puts each unit's processes into a cgroup named like the unit, below its slices, which are root's. A unit to
//! which its part was given (`Delegate=yes`, `user@1000.service`) makes what names it likes below its own: so the
//! outermost unit counts, and its directory must lie in one of root's. systemd itself is asked over D-Bus by pid, and
//! must not say otherwise; the unit's file is known from there alone.
//!
//! Forgeable by: root on this node, whoever may start units (`systemd-run`, polkit's `manage-units`) or write unit
//! files, and whoever can have a program run in the unit. Not by a delegated cgroup, nor by a user's own manager, whose
//! units are all `user@UID.service` here.

mod bus;

use std::fs;
use std::path::PathBuf;

use tokio::sync::Semaphore;

use self::bus::{Bus, BusError};
use super::Unseen;
use crate::attest::cgroup::{self, Cgroups, Maker, Place};
use crate::attest::process::Process;
use crate::identity::{Selector, SelectorSet};

/// Questions under way at once: the bus serves the machine.
const ASKING: usize = 8;
/// What a unit with processes is called, slices apart.
const ENDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Attests by systemd.
#[derive(Debug)]
pub(in crate::attest) struct Systemd {
    bus: Option<PathBuf>,
    asking: Semaphore,
}

/// A unit as a cgroup names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    id: String,
    place: Place,
}

impl Systemd {
    /// Asks at the socket `bus` of the system's D-Bus; without one the cgroups must do.
    pub(in crate::attest) fn new(bus: Option<PathBuf>) -> Self {
        Self { bus, asking: Semaphore::new(ASKING) }
    }

    /// What the kernel alone says where systemd said nothing, for the reason `unseen`: the unit's name, if only root can
    /// have made the cgroup of that name. Where systemd said something else, nothing.
    pub(in crate::attest) fn sure(&self, cgroups: &Cgroups, unseen: &Unseen) -> SelectorSet {
        if self.bus().is_some() && !unseen.is_failure() {
            return SelectorSet::new();
        }
        let named = self::named(cgroups, &root());
        let named = named.filter(|named| cgroup::maker(&named.place) == Maker::Trusted);
        named.and_then(|named| selector("id", &named.id)).into_iter().collect()
    }

    fn bus(&self) -> Option<&PathBuf> {
        self.bus.as_ref().filter(|bus| bus.exists())
    }

    /// What `process`, which stands in `cgroups`, has; nothing if it is of no unit.
    pub(in crate::attest) async fn selectors(
        &self,
        process: &Process,
        cgroups: &Cgroups,
    ) -> Result<SelectorSet, Unseen> {
        let Some(named) = named(cgroups, &root()) else { return Ok(SelectorSet::new()) };
        let maker = cgroup::maker(&named.place);
        if maker == Maker::Delegate {
            let id = &named.id;
            return Err(Unseen::Refused(format!("somebody else than root can have made the cgroup of {id}")));
        }
        let Some(bus) = self.bus() else {
            let unknown = "there is no D-Bus here: the unit's file is not known";
            return match maker {
                Maker::Trusted => Err(Unseen::Refused(unknown.to_owned())),
                _ => Err(Unseen::Refused(format!(
                    "{unknown}, and its cgroup cannot be seen: mount /sys/fs/cgroup"
                ))),
            };
        };
        let _place = self.asking.acquire().await.map_err(|_| Unseen::NotYet("shutting down".to_owned()))?;
        // By pid: it cannot come to mean another while the process lives, which is looked at afterwards.
        let mut bus = Bus::connect(bus).await.map_err(|e| failed(&e))?;
        let unit = match bus.unit_of(process.pid).await {
            Ok(unit) => unit,
            Err(BusError::Refused(name)) if name.ends_with(".NoUnitForPID") => {
                return Err(Unseen::NotYet("systemd knows no unit of it".to_owned()));
            }
            Err(error) => return Err(failed(&error)),
        };
        if unit.id != named.id {
            let (says, stands) = (unit.id, named.id);
            return Err(Unseen::Refused(format!(
                "systemd says that it is of {says}, its cgroup that of {stands}"
            )));
        }
        let file = Some(unit.fragment_path).filter(|path| !path.is_empty());
        let file = file.and_then(|path| selector("fragment_path", &path));
        Ok(selector("id", &unit.id).into_iter().chain(file).collect())
    }
}

/// `None` where an entry could not name it.
fn selector(key: &str, value: &str) -> Option<Selector> {
    format!("systemd:{key}:{value}").parse().ok()
}

fn failed(error: &BusError) -> Unseen {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Unseen::Failed(format!("{error}{}", cause.unwrap_or_default()))
}

/// The cgroup below which the manager of this PID namespace keeps its units: empty on a machine of its own, more in a
/// container that shares the machine's cgroup namespace.
fn root() -> String {
    let text = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let cgroups = Cgroups::parse(&text).unwrap_or_default();
    let path = place(&cgroups).map(|place| place.path.as_str()).unwrap_or_default();
    path.strip_suffix("/init.scope").unwrap_or(path).trim_end_matches('/').to_owned()
}

/// systemd's own hierarchy: the unified one, but for version 1, where it has one by its name.
fn place(cgroups: &Cgroups) -> Option<&Place> {
    let of = |name: &str| cgroups.places().iter().find(|place| place.hierarchy == name);
    of("name=systemd").or_else(|| of(""))
}

/// The outermost unit in the path, below nothing but slices.
fn named(cgroups: &Cgroups, root: &str) -> Option<Named> {
    let place = place(cgroups)?;
    let below = place.path.strip_prefix(root)?.strip_prefix('/')?;
    let mut end = root.len();
    for part in below.split('/') {
        end += 1 + part.len();
        // systemd.slice(5); a name that could be mistaken for a controller's file is written with a `_` before it.
        let name = part.strip_prefix('_').unwrap_or(part);
        if ENDS.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| !stem.is_empty())) {
            let path = place.path.get(..end)?.to_owned();
            let place = Place { hierarchy: place.hierarchy.clone(), path };
            return Some(Named { id: name.to_owned(), place });
        }
        if !name.ends_with(".slice") {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(root: &str, path: &str, expected: Option<(&str, &str)>) {
        let cgroups = Cgroups::parse(&format!("0::{path}\n")).unwrap();
        let found = named(&cgroups, root).map(|named| (named.id, named.place.path));
        assert_eq!(found, expected.map(|(id, path)| (id.to_owned(), path.to_owned())), "{path}");
    }

    #[test]
    fn the_outermost_unit_below_slices_is_the_one() {
        let web = Some(("web.service", "/system.slice/web.service"));
        check("", "/system.slice/web.service", web);
        check("", "/system.slice/web.service/api.service", web);
        check("", "/init.scope", Some(("init.scope", "/init.scope")));
        check("", "/system.slice/_cpu.service", Some(("cpu.service", "/system.slice/_cpu.service")));
        let deep = "/system.slice/system-web.slice/web@1.service";
        check("", deep, Some(("web@1.service", deep)));
        let user = "/user.slice/user-1000.slice/user@1000.service";
        check("", &format!("{user}/app.slice/web.service"), Some(("user@1000.service", user)));
        let inner = "/docker/x/system.slice/web.service";
        check("/docker/x", inner, Some(("web.service", inner)));
    }

    #[test]
    fn names_elsewhere_are_no_units() {
        for path in
            ["/", "/system.slice", "/mine/web.service", "/docker/x/web.service", "/.service", "/a.slice/x"]
        {
            check("", path, None);
        }
        check("/docker/x", "/docker/xy/web.service", None);
        check("/docker/x", "/system.slice/web.service", None);
    }

    #[test]
    fn of_version_1_the_hierarchy_of_systemd_counts() {
        let text = "3:memory:/system.slice/api.service\n1:name=systemd:/system.slice/web.service\n0::/x\n";
        assert_eq!(named(&Cgroups::parse(text).unwrap(), "").unwrap().id, "web.service");
    }
}
