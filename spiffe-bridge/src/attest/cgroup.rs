//! Where a process stands in the cgroup hierarchies, and who can have put that place there. cgroups(7).
//!
//! The path is a name, not a proof: whoever was given a part of a hierarchy may make cgroups of any name below it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The longest /proc/PID/cgroup that is looked at: paths are bounded by PATH_MAX, and there are some 14 hierarchies.
const MOST_BYTES: u64 = 64 << 10;

/// One hierarchy (`""` for the unified one, else its controllers or `name=systemd`) and the path in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which hierarchy.
    pub hierarchy: String,
    /// From the root of our cgroup namespace; begins with `/..` outside of it.
    pub path: String,
}

/// Where a process stands, one place a hierarchy, in the order of the hierarchies' names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cgroups(Vec<Place>);

impl Cgroups {
    /// The text of /proc/PID/cgroup; `None` if it is not in that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let place = |line: &str| {
            // The path is last and may hold any character but a line end, also colons.
            let mut fields = line.splitn(3, ':');
            let (id, hierarchy, path) = (fields.next()?, fields.next()?, fields.next()?);
            let good = id.parse::<u32>().is_ok() && path.starts_with('/');
            // Of a process whose cgroup was removed: it stands nowhere that has a name.
            let path = path.trim_end_matches(" (deleted)");
            good.then(|| Place { hierarchy: hierarchy.to_owned(), path: path.to_owned() })
        };
        // Not `lines`: a name may end with a carriage return, and is then another name.
        let mut places = text.split_terminator('\n').map(place).collect::<Option<Vec<_>>>()?;
        places.sort();
        let twice = places.windows(2).any(|two| matches!(two, [a, b] if a.hierarchy == b.hierarchy));
        (!twice).then_some(Self(places))
    }

    /// The places, by hierarchy.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.0
    }
}

pub(super) fn of(pid: u32) -> io::Result<Cgroups> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(format!("/proc/{pid}/cgroup"))?.take(MOST_BYTES).read_to_string(&mut text)?;
    let unexpected =
        || io::Error::new(io::ErrorKind::InvalidData, "not in the form that cgroups(7) describes");
    Cgroups::parse(&text).ok_or_else(unexpected)
}

/// Who can have made a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    /// Root, or the server's own user.
    Trusted,
    /// Somebody whom a part of the hierarchy was given to.
    Delegate,
    /// Our mounts do not show it.
    Unseen,
}

/// Who can have made the cgroup at `place`: whoever may write to the directory that it lies in.
pub(super) fn maker(place: &Place) -> Maker {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(directory) = directory(&mounts, place) else { return Maker::Unseen };
    let Some(Ok(parent)) = directory.parent().map(fs::metadata) else { return Maker::Unseen };
    let trusted = [0, rustix::process::geteuid().as_raw()].contains(&parent.uid());
    if trusted && parent.mode() & 0o022 == 0 { Maker::Trusted } else { Maker::Delegate }
}

/// The directory of a cgroup, by /proc/self/mountinfo. proc_pid_mountinfo(5).
fn directory(mounts: &str, place: &Place) -> Option<PathBuf> {
    if place.path.split('/').any(|part| part == "..") {
        return None;
    }
    // Of mounts at one point the last covers the others.
    mounts.lines().rev().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let is_it = match place.hierarchy.as_str() {
            "" => kind == "cgroup2",
            // One mount may join several controllers: `cpu,cpuacct`.
            named => kind == "cgroup" && named.split(',').all(|one| options.split(',').any(|o| o == one)),
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = match root {
            "/" => Some(place.path.as_str()),
            root => place.path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        // Blanks in a mount point are escaped; cgroups are not mounted on such.
        let below = below.filter(|_| is_it && !point.contains('\\'))?;
        Some(PathBuf::from(format!("{point}{}", below.trim_end_matches('/'))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(hierarchy: &str, path: &str) -> Place {
        Place { hierarchy: hierarchy.into(), path: path.into() }
    }

    #[test]
    fn both_versions_are_read_and_other_texts_are_not() {
        let v1 = Cgroups::parse("9:name=systemd:/a:b\n2:cpu,cpuacct:/\n0::/x (deleted)\n").unwrap();
        assert_eq!(v1.places(), [place("", "/x"), place("cpu,cpuacct", "/"), place("name=systemd", "/a:b")]);
        assert_eq!(Cgroups::parse("0::/\n").unwrap().places(), [place("", "/")]);
        for text in ["x", "0:/", "a::/", "0::x", "0::/\n0::/y"] {
            assert_eq!(Cgroups::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_directory_is_found_below_the_mount_that_shows_it() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 25 0:29 /x /sys/fs/cgroup/systemd ro - cgroup cgroup rw,name=systemd\n\
                      34 33 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      32 25 0:28 /own /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 none rw\n";
        let found = |hierarchy, path| directory(mounts, &place(hierarchy, path));
        assert_eq!(found("memory", "/a/b"), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(found("cpu,cpuacct", "/a"), Some("/sys/fs/cgroup/cpu,cpuacct/a".into()));
        assert_eq!(found("name=systemd", "/x/a"), Some("/sys/fs/cgroup/systemd/x/a".into()));
        assert_eq!(found("", "/own/a"), Some("/sys/fs/cgroup/unified/a".into()));
        assert_eq!(found("", "/owner/a"), None);
        assert_eq!(found("pids", "/a"), None);
        assert_eq!(found("memory", "/../b"), None);
    }

    #[test]
    fn a_cgroup_below_one_that_was_given_away_has_no_trusted_maker() {
        let own = of(std::process::id()).unwrap();
        let base = own.places().iter().find_map(|place| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let directory = directory(&mounts, place)?.join(format!("maker-{}", std::process::id()));
            fs::create_dir(&directory).is_ok().then(|| (place.clone(), directory))
        });
        let (place, directory) = base.expect("run as root, with cgroups mounted");
        let name = directory.file_name().unwrap().to_str().unwrap();
        let place = |path: &str| Place {
            path: format!("{}/{path}", place.path.trim_end_matches('/')),
            ..place.clone()
        };
        fs::create_dir(directory.join("inner")).unwrap();
        let (outer, inner) = (place(name), place(&format!("{name}/inner")));
        assert_eq!((maker(&outer), maker(&inner)), (Maker::Trusted, Maker::Trusted));
        std::os::unix::fs::chown(&directory, Some(1001), None).unwrap();
        assert_eq!((maker(&outer), maker(&inner)), (Maker::Trusted, Maker::Delegate));
        assert_eq!(maker(&place("nowhere/x")), Maker::Unseen);
        fs::remove_dir(directory.join("inner")).unwrap();
        fs::remove_dir(directory).unwrap();
    }
}
