//! A fake Docker daemon, for behaviour that a real one cannot be made to show, such as an error in answer to a list.

use super::UNPOISONED;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// An HTTP server on a Unix socket with a test's answers. It ends with the test.
pub struct FakeDocker {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

/// An answer of a [`FakeDocker`].
pub enum Reply {
    /// A status such as 200, and a body.
    Json(u16, Value),
    /// A stream that stays open without data, like the event stream of a quiet host.
    Silence,
    /// A stream of the channel's messages. It ends when the sender is dropped.
    Stream(Receiver<Value>),
    /// The connection closes without an answer.
    HangUp,
}

impl Reply {
    /// An error in Docker's form.
    pub fn error(status: u16, message: &str) -> Self {
        Reply::Json(status, json!({ "message": message }))
    }
}

type Routes = dyn Fn(&str, &str) -> Option<Reply> + Send + Sync;

impl FakeDocker {
    /// Starts a server. `routes` gets the method and the path, without version and query. If it returns nothing, an
    /// idle Docker's answer is used: a version, an id, no containers and no events.
    ///
    /// # Panics
    ///
    /// If no socket can be made.
    pub fn start(
        routes: impl Fn(&str, &str) -> Option<Reply> + Send + Sync + 'static,
    ) -> FakeDocker {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let listener = UnixListener::bind(directory.path().join("docker.sock"))
            .expect("a socket can be made in a temporary directory");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let fake = FakeDocker {
            directory,
            requests: Arc::clone(&requests),
        };
        let routes: Arc<Routes> = Arc::new(routes);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (routes, requests) = (Arc::clone(&routes), Arc::clone(&requests));
                // The client may close the connection at any time.
                thread::spawn(move || drop(serve(stream, &*routes, &requests)));
            }
        });
        fake
    }

    /// The address, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// The requests so far, in order: `GET /containers/json`.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.expect(UNPOISONED).clone()
    }
}

/// Answers requests until the client closes the connection.
fn serve(mut stream: UnixStream, routes: &Routes, requests: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = without_version(path.split('?').next().unwrap_or(""));

        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or((&header, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        reader.read_exact(&mut vec![0; length])?;

        requests
            .lock()
            .expect(UNPOISONED)
            .push(format!("{method} {path}"));
        let reply = routes(method, path).unwrap_or_else(|| idle(path));
        if !answer(&mut stream, &mut reader, reply)? {
            return Ok(());
        }
    }
}

/// `/v1.41/info` → `/info`.
fn without_version(path: &str) -> &str {
    match path[1.min(path.len())..].split_once('/') {
        Some((version, _)) if version.starts_with("v1.") => &path[version.len() + 1..],
        _ => path,
    }
}

/// The answers of an idle Docker.
fn idle(path: &str) -> Reply {
    match path {
        "/_ping" => Reply::Json(200, json!("OK")),
        "/version" => Reply::Json(
            200,
            json!({ "Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12" }),
        ),
        "/info" => Reply::Json(
            200,
            json!({ "ID": "FAKE", "Name": "fake", "ServerVersion": "20.10.24" }),
        ),
        "/containers/json" => Reply::Json(200, json!([])),
        "/events" => Reply::Silence,
        path if path.starts_with("/containers/") => Reply::error(404, "No such container: it"),
        _ => Reply::error(404, "page not found"),
    }
}

/// Returns whether the connection can take another request.
fn answer(
    stream: &mut UnixStream,
    reader: &mut BufReader<UnixStream>,
    reply: Reply,
) -> io::Result<bool> {
    let head = "Api-Version: 1.41\r\nContent-Type: application/json\r\n";
    match reply {
        Reply::Json(status, body) => {
            let body = body.to_string();
            let length = body.len();
            // In one write, like a server that buffers its answers.
            stream.write_all(
                format!("HTTP/1.1 {status} Canned\r\n{head}Content-Length: {length}\r\n\r\n{body}")
                    .as_bytes(),
            )?;
            return Ok(true);
        }
        Reply::Silence => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
            )?;
            // The client sends nothing more. This returns when it closes the connection.
            let _ = reader.read(&mut [0])?;
        }
        Reply::Stream(values) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
            )?;
            for value in values {
                let line = format!("{value}\n");
                stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
            }
            write!(stream, "0\r\n\r\n")?;
        }
        Reply::HangUp => {}
    }
    Ok(false)
}
