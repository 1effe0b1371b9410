//! A minimal HTTP client, for registrars with `--listen`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::SOON;

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// The raw head.
    pub head: String,
    pub body: String,
}

/// Asks for a path.
///
/// # Panics
///
/// If there is no answer before [`SOON`].
#[track_caller]
pub fn get(address: &str, path: &str) -> Page {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(SOON))
        .expect("a time limit can be set");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status");
    Page {
        status: status.parse().expect("a number"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
