//! Names the program that holds a socket, so that an operator need not look for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::sockets::Socket;
use crate::base::text::{printable, quote};

/// The length of a container's id, in hexadecimal digits, and of its short form.
const ID: usize = 64;
const SHORT_ID: usize = 12;

/// The process of each open socket, by the socket's inode. Those of other users are seen by root alone.
pub fn processes(proc: &Path) -> BTreeMap<u64, PathBuf> {
    let mut processes = BTreeMap::new();
    let directories = fs::read_dir(proc).into_iter().flatten().flatten();
    for process in directories.map(|entry| entry.path()) {
        let is_process = process
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        for inode in inodes(&process) {
            processes.entry(inode).or_insert_with(|| process.clone());
        }
    }
    processes
}

/// The sockets of a process, by its directory in `/proc`.
pub fn inodes(process: &Path) -> Vec<u64> {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten();
    let targets = files.flatten().map(|file| fs::read_link(file.path()));
    let inodes = targets.filter_map(|target| inode_of(target.ok()?.to_str()?));
    inodes.collect()
}

/// `socket:[4026]` → 4026
fn inode_of(target: &str) -> Option<u64> {
    let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

/// Describes the holder of a socket. `process` is its directory in `/proc`, if it can be seen.
pub fn describe(socket: &Socket, process: Option<&PathBuf>) -> String {
    let Some(process) = process else {
        return format!(
            "another program of the user with the id {} (as root, `ss -lntup` shows which)",
            socket.uid
        );
    };
    let read = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
    let pid = process.file_name().unwrap_or_default().to_string_lossy();
    let command = quote(read("comm").trim_end());
    let mut holder = format!("{command} (process {pid})");
    if let Some(published) = published(&read("cmdline")) {
        holder.push_str(&published);
    } else if let Some(id) = container(&read("cgroup")) {
        holder = format!("{holder} in container `{id}`");
    }
    if !socket.is_open {
        holder.push_str(", as its end of a connection");
    }
    holder
}

/// The container's port that docker-proxy publishes, from its arguments.
fn published(arguments: &str) -> Option<String> {
    let mut arguments = arguments.split('\0');
    arguments.next()?.ends_with("docker-proxy").then_some(())?;
    let arguments: Vec<&str> = arguments.collect();
    let value = |name| {
        let place = arguments.iter().position(|argument| *argument == name)?;
        arguments.get(place + 1).map(|value| printable(value))
    };
    let (ip, port) = (value("-container-ip")?, value("-container-port")?);
    Some(format!(
        ", which publishes port {port} of the container at {ip}"
    ))
}

/// The short id of a container, from the control group of one of its processes: `docker-<id>.scope`, `/docker/<id>`.
fn container(cgroup: &str) -> Option<&str> {
    let mut words = cgroup.split(|c: char| !c.is_ascii_alphanumeric());
    let id =
        words.find(|word| word.len() == ID && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    id.map(|id| &id[..SHORT_ID])
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;
    use crate::routes::{Bound, Protocol};

    const HTTP: Bound = Bound {
        protocol: Protocol::Tcp,
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80),
    };
    const CONTAINER: &str = "6f0c6bd7ae9c6f0c6bd7ae9c6f0c6bd7ae9c6f0c6bd7ae9c6f0c6bd7ae9cabcd";

    /// What is told of a process with these files.
    fn told(files: &[(&str, &str)], is_open: bool) -> String {
        let proc = tempfile::tempdir().expect("a directory");
        let process = proc.path().join("77");
        fs::create_dir_all(process.join("fd")).expect("a directory");
        for (name, text) in files {
            fs::write(process.join(name), text).expect("a file");
        }
        std::os::unix::fs::symlink("socket:[4026]", process.join("fd/3")).expect("a link");
        let socket = Socket {
            bound: HTTP,
            is_open,
            uid: 33,
            inode: 4026,
        };
        let processes = processes(proc.path());
        assert_eq!(processes.len(), 1);
        describe(&socket, processes.get(&socket.inode))
    }

    #[test]
    fn a_holder_is_told_by_its_command_and_its_container() {
        let cgroup = format!("0::/system.slice/docker-{CONTAINER}.scope\n");
        let files = [
            ("comm", "nginx\n"),
            ("cgroup", &cgroup),
            ("cmdline", "nginx"),
        ];
        assert_eq!(
            told(&files, true),
            "`nginx` (process 77) in container `6f0c6bd7ae9c`"
        );
        let files = [
            ("comm", "a\u{1b}b\n"),
            ("cgroup", "0::/system.slice/ssh.service\n"),
        ];
        assert_eq!(
            told(&files, false),
            "`a\\u{1b}b` (process 77), as its end of a connection"
        );
        let v1 = format!("12:cpu:/docker/{CONTAINER}\n1:name=systemd:/\n");
        assert_eq!(container(&v1), Some("6f0c6bd7ae9c"));
    }

    #[test]
    fn docker_proxy_is_told_by_the_container_that_it_serves() {
        let arguments = [
            "/usr/bin/docker-proxy",
            "-proto tcp -host-ip 0.0.0.0 -host-port 8005",
            "-container-ip 172.17.0.2 -container-port 80 ",
        ];
        let arguments = arguments.join(" ").replace(' ', "\0");
        let files = [("comm", "docker-proxy\n"), ("cmdline", &arguments)];
        assert_eq!(
            told(&files, true),
            "`docker-proxy` (process 77), which publishes port 80 of the container at 172.17.0.2"
        );
    }

    #[test]
    fn a_holder_that_cannot_be_seen_is_told_by_its_user() {
        let socket = Socket {
            bound: HTTP,
            is_open: true,
            uid: 33,
            inode: 1,
        };
        assert_eq!(
            describe(&socket, None),
            "another program of the user with the id 33 (as root, `ss -lntup` shows which)"
        );
    }
}
