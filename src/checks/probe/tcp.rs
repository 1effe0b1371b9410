//! A probe over TCP: a text is sent, and another one expected.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Trouble;
use crate::base::text::quote;
use crate::wanted::check::Tcp;

/// The most bytes of an answer that are read.
const MOST_READ: usize = 64 * 1024;

pub(super) async fn ask(tcp: &Tcp, mut stream: TcpStream) -> Result<(), Trouble> {
    let failed = |error| Trouble::of(&error);
    if !tcp.send.is_empty() {
        stream
            .write_all(tcp.send.as_bytes())
            .await
            .map_err(failed)?;
    }
    if tcp.expect.is_empty() {
        return Ok(());
    }
    let expected = tcp.expect.as_bytes();
    let mut answer = Vec::new();
    while answer.len() < MOST_READ {
        let searched = answer.len().saturating_sub(expected.len());
        if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
            let answer = shown(&answer);
            let expected = quote(&tcp.expect);
            return Err(Trouble::Failed(format!(
                "its answer is {answer}, without {expected}"
            )));
        }
        let mut places = answer[searched..].windows(expected.len());
        if places.any(|place| place == expected) {
            return Ok(());
        }
    }
    Err(Trouble::Failed(format!(
        "the first {MOST_READ} bytes of its answer are without {}",
        quote(&tcp.expect)
    )))
}

fn shown(answer: &[u8]) -> String {
    if answer.is_empty() {
        "empty".to_owned()
    } else {
        quote(&String::from_utf8_lossy(answer))
    }
}
