//! The systemd unit: checked by systemd's own tools, and run under a real systemd in a container.

use crate::common;

use common::{Container, HOST_IP, SOON, TestBed, docker, eventually, eventually_some, web_keys};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const UNIT: &str = include_str!("../../examples/docker-register.service");
const DISCOVER: &str = include_str!("../../examples/docker-discover.service");
const UP: &str = include_str!("../../examples/docker-up.service");
const PROGRAM: &str = env!("CARGO_BIN_EXE_docker-register");

/// Runs systemd-analyze on a unit, with the path of the program under test.
fn analyze(unit: &str, args: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("docker-register.service");
    let unit = unit.replace("/usr/local/bin/docker-register", PROGRAM);
    fs::write(&file, unit).expect("a file can be written");
    let output = Command::new("systemd-analyze")
        .args(args)
        .arg(&file)
        .output();
    output.expect("`make test` installs `systemd-analyze`")
}

#[test]
fn systemd_finds_no_fault() {
    for unit in [UNIT, DISCOVER, UP] {
        let output = analyze(unit, &["verify", "--man=no"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn its_instructions_install_the_manual_page_that_it_names() {
    let root = tempfile::tempdir().expect("a temporary directory can be made");
    let to = format!("{}/usr/local", root.path().display());
    for unit in [UNIT, DISCOVER, UP] {
        assert!(unit.contains("Documentation=man:docker-register(1)"));
        let mut lines = unit.lines().filter_map(|line| line.strip_prefix("#   "));
        let line = lines.find(|line| line.starts_with("docker-register man"));
        let line = line.expect("the instructions");
        let line = line.replace("docker-register man", &format!("{PROGRAM} man"));
        let line = line.replace("sudo ", "").replace("/usr/local", &to);
        let installed = Command::new("sh").args(["-e", "-c", &line]).status();
        assert!(installed.expect("`sh` can be run").success(), "{line}");
        let page = fs::read_to_string(format!("{to}/share/man/man1/docker-register.1"));
        assert!(page.expect("the page").contains(".TH docker-register 1"));
    }
}

#[test]
fn it_exposes_no_more_than_it_says() {
    let (_, rest) = UNIT
        .split_once("rates its exposure ")
        .expect("the rating in the head");
    let (rating, _) = rest.split_once(" of 10").expect("the rating in the head");
    // The threshold is in tenths.
    let threshold = format!("--threshold={}", rating.replace('.', ""));
    let output = analyze(
        UNIT,
        &["security", "--offline=true", "--no-pager", &threshold],
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

/// A container in which systemd runs with the unit, the program, and this machine's `/usr`.
struct Machine {
    container: Container,
    _etc: TempDir,
}

impl Machine {
    /// Starts it. The unit has `variables` from its file, and the password of etcd's user.
    fn start(bed: &TestBed, unit: &str, variables: &str) -> Self {
        let etc = tempfile::tempdir().expect("a temporary directory can be made");
        let files = [
            ("docker-register.service", unit),
            ("default/docker-register", variables),
            ("docker-register/etcd-password", "secret\n"),
        ];
        for (name, text) in files {
            let file = etc.path().join(name);
            let parent = file.parent().expect("a file is in a directory");
            fs::create_dir_all(parent).expect("a directory can be made");
            fs::write(&file, text).expect("a file can be written");
        }
        let from_etc =
            |name: &str, to: &str| format!("{}:{to}:ro", etc.path().join(name).display());
        let programs = Path::new(PROGRAM)
            .parent()
            .expect("a program is in a directory");
        let volumes = [
            "/usr:/usr:ro".to_owned(),
            format!("{}:/usr/local/bin:ro", programs.display()),
            "/var/run/docker.sock:/run/docker.sock".to_owned(),
            from_etc("default", "/etc/default"),
            from_etc("docker-register", "/etc/docker-register"),
            from_etc(
                "docker-register.service",
                "/etc/systemd/system/docker-register.service",
            ),
        ];
        // It has the rights that systemd needs for sandboxing, but cannot change the host's kernel: /proc/sys stays
        // as it is, and the units of a booting machine are not started. The etcd listens on the host's loopback.
        let mut machine = bed.container_of(&bed.systemd_image());
        let args = "--network host --cgroupns private --cap-add ALL --security-opt seccomp=unconfined \
            --security-opt apparmor=unconfined --tmpfs /run:exec --tmpfs /tmp --tmpfs /usr/lib/systemd/system/sysinit.target.wants";
        let args: Vec<&str> = args.split_whitespace().collect();
        machine = machine.args(&args);
        for (name, number) in [("SYS_MODULE", 16), ("SYS_RESOURCE", 24), ("SYS_TIME", 25)] {
            if has_capability(number) || docker_before_26() {
                machine = machine.arg("--cap-drop").arg(name);
            }
        }
        for volume in volumes {
            machine = machine.arg("--volume").arg(&volume);
        }
        let machine = Machine {
            container: machine.start(),
            _etc: etc,
        };
        eventually(SOON, "systemd to answer", || {
            machine.systemctl("is-active basic.target").as_deref() == Some("active")
        });
        machine
    }

    /// The output of `systemctl`, unless it fails.
    fn systemctl(&self, args: &str) -> Option<String> {
        let output = Command::new("docker")
            .args(["exec", self.container.id(), "systemctl"])
            .args(args.split(' '))
            .output()
            .expect("`docker` can be run");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    }

    /// The log of the program, and systemd's about it.
    fn log(&self) -> String {
        self.container
            .exec(&["journalctl", "--no-pager", "--unit", "docker-register"])
    }

    /// A property of the unit.
    fn property(&self, name: &str) -> String {
        let shown = self.systemctl(&format!("show --value --property {name} docker-register"));
        shown.expect("systemd knows the unit")
    }
}

/// Whether Docker grants capabilities that the host does not have, unless they are dropped. From version 26 on it does
/// not, and refuses to drop them.
fn docker_before_26() -> bool {
    let version = docker(&["version", "--format", "{{.Server.Version}}"]);
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major < 26)
}

/// Whether this host has a capability.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let mut lines = status.lines();
    let bounding = lines.find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding.expect("a bounding set").trim();
    u64::from_str_radix(bounding, 16).expect("hex digits") >> number & 1 == 1
}

#[test]
fn it_registers_and_reloads_and_ends_under_systemd_with_no_rights() {
    let bed = TestBed::new();
    let web = bed.container().publish_all().start();
    let variables = format!(
        "HOST_IP={HOST_IP}\nETCD_HOST={}\nDOCKER_REGISTER_PREFIX={}\nDOCKER_REGISTER_FILTER={}\n",
        bed.etcd.endpoint(),
        bed.prefix,
        bed.filter()
    );
    let machine = Machine::start(&bed, UNIT, &variables);

    // This returns when the program reports that it is ready.
    machine
        .systemctl("start docker-register")
        .expect("it starts");
    assert_eq!(bed.keys(), web_keys("web", &web, HOST_IP));
    assert_eq!(machine.property("StatusText"), "in step with Docker");

    let pid = machine.property("MainPID");
    let status = machine
        .container
        .exec(&["cat", &format!("/proc/{pid}/status")]);
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next())
            .map(str::to_owned)
    };
    assert_ne!(of("Uid:").as_deref(), Some("0"));
    assert_eq!(of("CapBnd:").as_deref(), Some("0000000000000000"));
    assert_eq!(of("Seccomp:").as_deref(), Some("2"));

    machine
        .systemctl("reload docker-register")
        .expect("it reloads");
    eventually(SOON, "the policy to be loaded again", || {
        machine.log().contains("policy, loaded again")
    });
    assert_eq!(machine.property("MainPID"), pid);
    machine.systemctl("stop docker-register").expect("it stops");
    assert_eq!(machine.property("Result"), "success", "{}", machine.log());
}

#[test]
fn it_reads_the_password_that_root_alone_may_read() {
    let bed = TestBed::new();
    let unit = UNIT
        .replace("#LoadCredential", "LoadCredential")
        .replace("#Environment=", "Environment=");
    let variables = format!(
        "HOST_IP={HOST_IP}\nETCD_HOST={}\nDOCKER_REGISTER_ETCD_USER=registrar\n",
        bed.etcd.endpoint()
    );
    let machine = Machine::start(&bed, &unit, &variables);
    let _ = docker(&[
        "exec",
        machine.container.id(),
        "systemctl",
        "start",
        "--no-block",
        "docker-register",
    ]);
    // This etcd has no users, and returns an error to clients with a name and a password.
    eventually_some(SOON, "etcd's answer to the user", || {
        let log = machine.log();
        assert!(!log.contains("cannot read the password"), "{log}");
        log.contains("it knows no users").then_some(())
    });
}
