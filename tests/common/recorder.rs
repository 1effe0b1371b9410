//! A socket proxy, as sites put in front of Docker: it forwards only allowed requests, and records all.

use super::UNPOISONED;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// A proxy on a Unix socket. It serves one request for each connection, and reads its head before it forwards
/// anything.
pub struct Recorder {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// A proxy to the socket at a path. It forwards the requests in `allowed`, in the form of [`Recorder::requests`],
    /// and answers 403 to all others.
    ///
    /// # Panics
    ///
    /// If no socket can be made.
    pub fn start(docker: &Path, allowed: &'static [&'static str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let listener =
            UnixListener::bind(directory.path().join("docker.sock")).expect("a socket can be made");
        let recorder = Recorder {
            directory,
            requests: Arc::default(),
        };
        let (docker, requests) = (docker.to_owned(), Arc::clone(&recorder.requests));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (docker, requests) = (docker.clone(), Arc::clone(&requests));
                // The client may close the connection at any time.
                thread::spawn(move || drop(serve(client, &docker, allowed, &requests)));
            }
        });
        recorder
    }

    /// The address, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// The requests so far: `GET /containers/{id}/json`, without the version of the API and the query.
    pub fn requests(&self) -> BTreeSet<String> {
        let requests = self.requests.lock().expect(UNPOISONED);
        requests.iter().map(|request| shape(request)).collect()
    }

    /// The number of these requests: `GET /containers/0123/json`.
    pub fn count(&self, request: &str) -> usize {
        let requests = self.requests.lock().expect(UNPOISONED);
        requests.iter().filter(|asked| *asked == request).count()
    }
}

fn serve(
    mut client: UnixStream,
    docker: &Path,
    allowed: &[&str],
    requests: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut reader = BufReader::new(client.try_clone()?);
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let (line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let request = without_version(line);
    let is_allowed = allowed.contains(&shape(&request).as_str());
    requests.lock().expect(UNPOISONED).push(request);
    if !is_allowed {
        let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes());
    }
    let mut server = UnixStream::connect(docker)?;
    write!(server, "{line}\r\nConnection: close\r\n{headers}")?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let answer = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Both)
    });
    // No further request is forwarded, but the end of the client's stream is.
    let mut rest = Vec::new();
    while reader.read_until(b'\n', &mut rest)? > 0 {
        rest.clear();
    }
    server.shutdown(Shutdown::Both)?;
    let _ = answer.join();
    Ok(())
}

/// `GET /v1.41/containers/0123/json?size=1 HTTP/1.1` → `GET /containers/0123/json`.
fn without_version(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = path.split('?').next().unwrap_or("");
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    if parts.first().is_some_and(|part| part.starts_with("v1.")) {
        parts.remove(0);
    }
    format!("{method} /{}", parts.join("/"))
}

/// `GET /containers/0123/json` → `GET /containers/{id}/json`.
fn shape(request: &str) -> String {
    let mut parts: Vec<&str> = request.split('/').collect();
    if let [_, "containers", id, _, ..] = parts.as_mut_slice() {
        *id = "{id}";
    }
    parts.join("/")
}
