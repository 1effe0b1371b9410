//! The installed versions of the proxies and etcd, and the processes of a proxy.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A proxy that `discover` drives, as `--proxy` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    Haproxy,
    Nginx,
    Envoy,
}

/// An installed version of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyProgram {
    pub kind: ProxyKind,
    /// A path, or the name of a program in `PATH`.
    pub program: PathBuf,
}

/// The programs that `tests/setup.sh` lists in `HAPROXIES`, else the one in `PATH`.
///
/// # Panics
///
/// If one of them cannot be run.
pub fn haproxies() -> Vec<ProxyProgram> {
    proxies(ProxyKind::Haproxy, programs("HAPROXIES", "haproxy", "-v"))
}

/// The programs that `tests/setup.sh` lists in `NGINXES`, else the one in `PATH`.
///
/// # Panics
///
/// If one of them cannot be run.
pub fn nginxes() -> Vec<ProxyProgram> {
    proxies(ProxyKind::Nginx, programs("NGINXES", "nginx", "-v"))
}

/// The programs that `tests/setup.sh` lists in `ENVOYS`, else the one in `PATH`. Without any, it says so, and under CI
/// it fails.
///
/// # Panics
///
/// If one of them cannot be run.
pub fn envoys() -> Vec<ProxyProgram> {
    let is_listed = std::env::var_os("ENVOYS").is_some_and(|list| !list.is_empty());
    if !is_listed && Command::new("envoy").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "envoy is missing");
        eprintln!("not tested, because envoy is missing");
        return Vec::new();
    }
    proxies(ProxyKind::Envoy, programs("ENVOYS", "envoy", "--version"))
}

/// The programs that `tests/setup.sh` lists in `ETCDS`, else the one in `PATH`.
///
/// # Panics
///
/// If one of them cannot be run.
pub fn etcds() -> Vec<PathBuf> {
    programs("ETCDS", "etcd", "--version")
}

/// The programs that `tests/setup.sh` lists in `VALKEYS`. There are none where Valkey cannot be had.
pub fn valkeys() -> Vec<PathBuf> {
    let list = std::env::var_os("VALKEYS").unwrap_or_default();
    let programs: Vec<PathBuf> = std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if programs.is_empty() {
        println!("passed over: valkey-server is missing");
    }
    programs
}

impl ProxyKind {
    pub const ALL: [Self; 3] = [Self::Haproxy, Self::Nginx, Self::Envoy];

    /// The value of `--proxy`, and the name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        }
    }

    /// The processes of such a proxy in this directory, the master first.
    ///
    /// # Panics
    ///
    /// If `pgrep` cannot be run.
    pub fn processes(self, directory: &Path) -> Vec<String> {
        let directory = directory.display();
        match self {
            Self::Haproxy => pgrep(&["-f", &format!("haproxy.*{directory}")]),
            // The workers' command lines name no directory.
            Self::Nginx => {
                let masters = pgrep(&["-f", &format!("^nginx: master process .*{directory}")]);
                let workers = masters.iter().flat_map(|master| pgrep(&["-P", master]));
                let workers: Vec<String> = workers.collect();
                [masters, workers].concat()
            }
            Self::Envoy => pgrep(&["-f", &format!("^[^ ]*envoy[^ ]* .*{directory}")]),
        }
    }
}

impl ProxyProgram {
    /// The one in `PATH`.
    pub fn of(kind: ProxyKind) -> Self {
        Self {
            kind,
            program: kind.name().into(),
        }
    }

    /// Makes a directory for `PATH` in which the proxy's name is this program.
    ///
    /// # Panics
    ///
    /// If it cannot be made, or the program is not given by its path.
    pub fn install(&self) -> TempDir {
        assert!(self.program.is_absolute(), "{self:?}");
        let directory = TempDir::new().expect("a temporary directory");
        let name = self.kind.name();
        let places = directory.path().join("program");
        fs::create_dir(&places).expect("a directory can be made");
        // The process has the proxy's name, whatever the file's is.
        let place = places.join(name);
        symlink(&self.program, &place).expect("a link can be made");
        let place = place.display();
        let script = if self.has_modules_compiled_in() {
            // Its default group is not everywhere, another user cannot read a test's directory, and its default prefix is
            // the working directory. Of several `-g` the last counts.
            format!(
                "#!/bin/sh\nmore='user root;'\n\
                 case \" $* \" in *' daemon off; '*) more=\"daemon off; $more\" ;; esac\n\
                 exec '{place}' -p '{}' \"$@\" -g \"$more\"\n",
                places.display()
            )
        } else {
            format!("#!/bin/sh\nexec '{place}' \"$@\"\n")
        };
        let file = directory.path().join(name);
        fs::write(&file, script).expect("a file can be written");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&file, executable).expect("a file can be made executable");
        directory
    }

    /// The flags of `discover` for this version: the modules of Debian's nginx are no other's.
    pub fn flags(&self) -> &'static [&'static str] {
        if self.has_modules_compiled_in() {
            &["--set", "nginx_modules=/dev/null"]
        } else {
            &[]
        }
    }

    /// Whether it is an nginx without modules in files of their own, as the wheel's is and Debian's is not.
    ///
    /// # Panics
    ///
    /// If it cannot be run.
    pub fn has_modules_compiled_in(&self) -> bool {
        self.kind == ProxyKind::Nginx && {
            let output = Command::new(&self.program).arg("-V").output();
            let output = output.expect("`nginx` can be run: `make test` installs it");
            let build = String::from_utf8_lossy(&output.stderr);
            build.contains("--with-stream ")
        }
    }
}

/// `PATH` with another directory before the others.
pub fn path_with(directory: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", directory.display())
}

/// The processes of the HAProxy in this directory, the master first.
pub fn processes(directory: &Path) -> Vec<String> {
    ProxyKind::Haproxy.processes(directory)
}

/// A directory for `discover`. The proxy in it ends when it goes out of scope, whoever started it.
pub struct ProxyDirectory(TempDir);

impl ProxyDirectory {
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for ProxyDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProxyDirectory {
    fn drop(&mut self) {
        for kind in ProxyKind::ALL {
            kill_processes(&kind.processes(self.path()));
        }
    }
}

/// Kills some of them, as a crash would.
pub fn kill_processes(processes: &[String]) {
    for process in processes {
        let _ = Command::new("kill").args(["-KILL", process]).status();
    }
}

fn pgrep(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("pgrep").args(arguments).output();
    let output = output.expect("pgrep can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

fn proxies(kind: ProxyKind, programs: Vec<PathBuf>) -> Vec<ProxyProgram> {
    let proxies = programs.into_iter();
    proxies
        .map(|program| ProxyProgram { kind, program })
        .collect()
}

fn programs(variable: &str, name: &str, flag: &str) -> Vec<PathBuf> {
    let list = std::env::var_os(variable).unwrap_or_default();
    let mut programs: Vec<PathBuf> = std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if programs.is_empty() {
        programs.push(name.into());
    }
    for program in &programs {
        let output = Command::new(program).arg(flag).output();
        let runs = output.is_ok_and(|output| output.status.success());
        assert!(
            runs,
            "`{}` cannot be run: `make test` installs it",
            program.display()
        );
    }
    println!("versions: {programs:?}");
    programs
}
