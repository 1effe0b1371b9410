//! The Debian package, with the program under test: read by Debian's own tools, and installed, run, upgraded, removed and
//! purged under a real systemd, in a container with this machine's `/usr` below a layer of its own.
//!
//! Not covered: a machine that boots with the units enabled, and apt, so dpkg alone looks at the dependencies, in this
//! machine's list of packages.

use crate::common;

use common::{Container, Load, SOON, TestBed, ask, eventually, free_port};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

use super::listen::is_missing;
use super::unit::systemd_container;

const PROGRAM: &str = env!("CARGO_BIN_EXE_docker-register");
const LOOPBACK: &str = "127.0.0.1";
/// This machine's list of packages.
const STATUS: &str = "/var/lib/dpkg/status";
/// The file with the settings.
const DEFAULT: &str = "/etc/default/docker-register";
const UNITS: [&str; 3] = ["docker-register", "docker-discover", "docker-register-up"];

/// The container's start. The package's files go into a layer above `/usr`. The units of a booting machine are hidden, and
/// so is a rule by which this machine's packages start nothing.
const START: &str = "set -e
mkdir -p /run/usr/upper /run/usr/work /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers
mount -t overlay overlay -o lowerdir=/usr,upperdir=/run/usr/upper,workdir=/run/usr/work /usr
rm -rf /usr/lib/systemd/system/sysinit.target.wants/* /usr/sbin/policy-rc.d
cp /package/status /var/lib/dpkg/status
exec /start";

/// The package, in a directory of its own.
struct Package {
    directory: TempDir,
    file: PathBuf,
}

impl Package {
    /// Builds it. A debug program is large, so it is packed fast.
    fn build() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let built = Command::new("bash")
            .args(["packaging/deb.sh", PROGRAM])
            .arg(directory.path())
            .env("DPKG_DEB_COMPRESSOR_LEVEL", "1")
            .output()
            .expect("`bash` can be run");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{said}");
        let files = fs::read_dir(directory.path()).expect("the directory");
        let mut files = files.map(|file| file.expect("a file").path());
        let file = files.next().expect("the package");
        assert_eq!(files.next(), None);
        Self { directory, file }
    }

    /// The output of `dpkg-deb` for it.
    fn dpkg_deb(&self, args: &[&str]) -> String {
        let (option, rest) = args.split_first().expect("an option");
        let output = Command::new("dpkg-deb")
            .arg(option)
            .arg(&self.file)
            .args(rest)
            .output()
            .expect("`make test` installs `dpkg-deb`");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn name(&self) -> String {
        let name = self.file.file_name().expect("a name");
        name.to_string_lossy().into_owned()
    }
}

#[test]
fn it_has_the_program_its_units_and_documents_and_lintian_finds_no_fault() {
    if is_missing("lintian") {
        return;
    }
    let package = Package::build();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(package.dpkg_deb(&["--field", "Version"]), version);
    let depends = package.dpkg_deb(&["--field", "Depends"]);
    assert!(depends.starts_with("libc6 (>= 2."), "{depends}");

    let tree = package.directory.path().join("tree");
    package.dpkg_deb(&["--extract", &tree.display().to_string()]);
    let read = |path: &str| {
        let text = fs::read_to_string(tree.join(path));
        text.unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    for unit in UNITS {
        let text = read(&format!("usr/lib/systemd/system/{unit}.service"));
        assert!(text.starts_with("[Unit]\n"), "{text}");
        assert!(
            text.contains("\nExecStart=/usr/bin/docker-register "),
            "{text}"
        );
        assert!(
            text.contains(&format!("\nEnvironmentFile=-{DEFAULT}\n")),
            "{text}"
        );
        assert!(!text.contains("/usr/local"), "{text}");
    }
    for path in [
        "usr/bin/docker-register",
        "usr/share/man/man1/docker-register.1.gz",
        "usr/share/doc/docker-register/docs/operations.md",
        "usr/share/doc/docker-register/scripts/register.lua",
    ] {
        assert!(tree.join(path).exists(), "{path}");
    }
    for path in [
        "usr/share/bash-completion/completions/docker-register",
        "usr/share/zsh/vendor-completions/_docker-register",
        "usr/share/fish/vendor_completions.d/docker-register.fish",
    ] {
        assert!(read(path).contains("discover"), "{path}");
    }
    for path in [
        "register.lua",
        "discover.lua",
        "types.lua",
        "layouts/coredns.lua",
    ] {
        let here = fs::read_to_string(Path::new("scripts").join(path)).expect("the policy");
        assert_eq!(read(&format!("usr/share/docker-register/{path}")), here);
    }
    let licences = read("usr/share/doc/docker-register/licences");
    assert!(licences.contains("Lua 5.4: MIT\n"), "{licences}");

    let checked = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(&package.file)
        .output()
        .expect("lintian runs");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn its_settings_are_those_that_the_commands_read() {
    let help = ["run", "discover"].map(|command| {
        let output = Command::new(PROGRAM).args([command, "--help"]).output();
        String::from_utf8_lossy(&output.expect("the program runs").stdout).into_owned()
    });
    let text = fs::read_to_string("packaging/debian/default").expect("the settings");
    let settings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let names: Vec<&str> = settings
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"ETCD_HOST"), "{names:?}");
    for name in names {
        let is_read = help
            .iter()
            .any(|text| text.contains(&format!("[env: {name}=")));
        assert!(is_read, "{name}");
    }
}

/// A container in which systemd runs and the package is installed.
struct Machine {
    container: Container,
    package: Package,
}

impl Machine {
    fn start(bed: &TestBed) -> Self {
        let package = Package::build();
        fs::copy(STATUS, package.directory.path().join("status")).expect("the list of packages");
        let volumes = [
            "/usr:/usr:ro".to_owned(),
            "/var/run/docker.sock:/run/docker.sock".to_owned(),
            format!("{}:/package:ro", package.directory.path().display()),
        ];
        let mut container = systemd_container(bed);
        for volume in &volumes {
            container = container.arg("--volume").arg(volume);
        }
        let machine = Self {
            container: container.command(&["sh", "-c", START]).start(),
            package,
        };
        eventually(SOON, "systemd to answer", || {
            machine.is("is-active", "basic.target", "active")
        });
        machine.install();
        machine
    }

    /// Installs the package, over itself if it is there.
    fn install(&self) {
        let file = format!("/package/{}", self.package.name());
        self.container.exec(&["dpkg", "--install", &file]);
    }

    fn systemctl(&self, args: &[&str]) -> String {
        self.container.exec(&[&["systemctl"], args].concat())
    }

    /// Whether `systemctl QUESTION UNIT` has this answer. It fails for some answers.
    fn is(&self, question: &str, unit: &str, answer: &str) -> bool {
        let output = Command::new("docker")
            .args(["exec", self.container.id(), "systemctl", question, unit])
            .output()
            .expect("`docker` can be run");
        String::from_utf8_lossy(&output.stdout).trim() == answer
    }

    fn pid(&self, unit: &str) -> String {
        self.systemctl(&["show", "--value", "--property", "MainPID", unit])
    }

    /// Writes a file, whose owner and rights stay as they are.
    fn write(&self, path: &str, text: &str) {
        fs::write(self.package.directory.path().join("file"), text).expect("a file");
        self.container.exec(&["cp", "/package/file", path]);
    }

    fn has(&self, path: &str) -> bool {
        let line = format!("test -e {path} -o -L {path} && echo there || true");
        self.container.exec(&["sh", "-c", &line]) == "there"
    }

    /// Whether a program of this name runs.
    fn runs(&self, name: &str) -> bool {
        let all = "cat /proc/[0-9]*/comm 2>/dev/null || true";
        let all = self.container.exec(&["sh", "-c", all]);
        // The kernel keeps 15 bytes.
        all.lines().any(|one| one == &name[..name.len().min(15)])
    }
}

/// Whether this machine has no packages of Debian's kind; it says so then.
fn is_no_debian() -> bool {
    let is_missing = !Path::new(STATUS).exists();
    if is_missing {
        assert!(std::env::var_os("CI").is_none(), "{STATUS} is missing");
        eprintln!("not tested, because {STATUS} is missing");
    }
    is_missing
}

/// The settings of a test's units, on loopback, which is in every test's reach.
fn settings(bed: &TestBed) -> String {
    format!(
        "HOST_IP={LOOPBACK}\nDOCKER_REGISTER_PREFIX={}\nDOCKER_REGISTER_FILTER={}\nDOCKER_REGISTER_DISCOVER_SET=bind={LOOPBACK}\n",
        bed.prefix,
        bed.filter()
    )
}

/// Two services on ports of this test alone, and the address and answer of the first.
fn services(bed: &TestBed) -> (Container, String, String) {
    let [first, second] = [(); 2].map(|()| free_port());
    let web = bed
        .container()
        .env("SERVICE_8005_PORT", &first.to_string())
        .env("SERVICE_8006_PORT", &second.to_string())
        .publish_all()
        .start();
    let answer = format!("{} 8005\n", web.short_id());
    (web, format!("{LOOPBACK}:{first}"), answer)
}

#[test]
fn its_units_register_and_route_an_upgrade_is_no_outage_and_a_purge_leaves_nothing() {
    if is_no_debian() {
        return;
    }
    let bed = TestBed::new();
    let machine = Machine::start(&bed);
    for unit in UNITS {
        assert!(machine.is("is-enabled", unit, "disabled"), "{unit}");
        assert!(machine.is("is-active", unit, "inactive"), "{unit}");
        let file = format!("/usr/lib/systemd/system/{unit}.service");
        let line = format!("systemd-analyze verify --man=no {file} 2>&1");
        assert_eq!(machine.container.exec(&["sh", "-c", &line]), "", "{unit}");
    }

    // Both units read the first file; the second one's address is one of its own.
    let [register, discover] = [(); 2].map(|()| format!("{LOOPBACK}:{}", free_port()));
    let text = format!(
        "{}ETCD_HOST={}\nDOCKER_REGISTER_LISTEN={register}\n",
        settings(&bed),
        bed.etcd.endpoint()
    );
    machine.write(DEFAULT, &text);
    let text = format!("DOCKER_REGISTER_LISTEN={discover}\n");
    machine.write("/etc/default/docker-discover", &text);
    let (web, address, answer) = services(&bed);
    // This returns when both report that they are ready.
    machine.systemctl(&["enable", "--now", "docker-register", "docker-discover"]);
    eventually(SOON, "an answer", || {
        ask(&address, "x").as_ref() == Ok(&answer)
    });
    for listens in [&register, &discover] {
        assert_eq!(common::get(listens, "/healthz").status, 200);
    }

    let key = bed.key(&format!("web/1/{}", web.short_id()));
    let revision = || bed.etcd.kv(&key).map(|found| found.mod_revision);
    let before = (revision(), UNITS.map(|unit| machine.pid(unit)));
    assert!(before.0.is_some(), "{:?}", bed.keys());
    let load = Load::start(&address, "x", 50);
    machine.install();
    eventually(SOON, "requests after the upgrade", || {
        let is_ready = |listens: &str| common::get(listens, "/readyz").status == 200;
        is_ready(&register) && is_ready(&discover) && load.count() > 100
    });
    let (_, failures) = load.stop();
    assert_eq!(failures, [""; 0]);
    assert_eq!(revision(), before.0);
    let now = UNITS.map(|unit| machine.pid(unit));
    assert!(now[0] != before.1[0] && now[1] != before.1[1], "{now:?}");
    assert_eq!(now[2], "0");

    machine
        .container
        .exec(&["dpkg", "--remove", "docker-register"]);
    for name in ["docker-register", "haproxy"] {
        eventually(SOON, &format!("the end of {name}"), || !machine.runs(name));
    }
    assert!(!machine.has("/usr/bin/docker-register"));
    assert!(machine.has(DEFAULT));
    machine
        .container
        .exec(&["dpkg", "--purge", "docker-register"]);
    for path in [
        DEFAULT,
        "/var/lib/docker-register",
        "/var/lib/private/docker-register",
        "/var/lib/docker-discover",
        "/etc/systemd/system/multi-user.target.wants/docker-register.service",
        "/etc/systemd/system/multi-user.target.wants/docker-discover.service",
    ] {
        assert!(!machine.has(path), "{path}");
    }
}

#[test]
fn its_third_unit_does_both_without_a_store_in_the_place_of_the_others() {
    if is_no_debian() {
        return;
    }
    let bed = TestBed::new();
    let machine = Machine::start(&bed);
    let etcd = format!("ETCD_HOST={}\n", bed.etcd.endpoint());
    machine.write(DEFAULT, &(settings(&bed) + &etcd));
    let (_web, address, answer) = services(&bed);
    machine.systemctl(&["start", "docker-register"]);

    machine.write(DEFAULT, &settings(&bed));
    machine.systemctl(&["start", "docker-register-up"]);
    eventually(SOON, "an answer", || {
        ask(&address, "x").as_ref() == Ok(&answer)
    });
    assert!(machine.is("is-active", "docker-register", "inactive"));

    let load = Load::start(&address, "x", 50);
    machine.install();
    eventually(SOON, "requests after the upgrade", || load.count() > 100);
    let (_, failures) = load.stop();
    assert_eq!(failures, [""; 0]);
    machine
        .container
        .exec(&["dpkg", "--purge", "docker-register"]);
    for name in ["docker-register", "haproxy"] {
        eventually(SOON, &format!("the end of {name}"), || !machine.runs(name));
    }
}
