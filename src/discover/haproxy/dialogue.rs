//! Questions and answers on a socket of `HAProxy`: the worker's, where a prompt ends each answer, and the master's,
//! where the end of the connection does.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::ReadHalf;
use tokio::select;

use super::{LIMIT, failure};
use crate::base::deadline::within;

/// Asks for a prompt after each answer. Without it, a connection takes one line, and the answers to the commands of a
/// line cannot be told apart: some end in an empty line, some do not, and some are empty. Up to 3.0 there is a prompt
/// for each command, from 3.2 for each line, so that each line has one command.
const PROMPT: &str = "prompt";
const END: &[u8] = b"\n> ";
const MASTERS_PROMPT: &[u8] = b"master> ";

/// The answers of a worker, one for each line. They are asked for at once, on one connection: 2,000 take 0.3 s.
pub async fn with_worker(socket: &Path, lines: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut stream = connect(socket).await?;
    let (answers, mut questions) = stream.split();
    let mut text = format!("{PROMPT}\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let write = async {
        // After an error there is no answer either, which is noticed there.
        let _ = questions.write_all(text.as_bytes()).await;
        pending::<Infallible>().await
    };
    select! {
        never = write => match never {},
        answers = Answers::of(socket, answers).read(lines) => answers,
    }
}

/// The answer of a master. Empty if it ended the connection without one, as 2.6 does when it reloads.
pub async fn with_master(socket: &Path, line: &str, limit: Duration) -> anyhow::Result<String> {
    let mut stream = connect(socket).await?;
    let asked = async {
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        // It answers only when nothing more can come.
        stream.shutdown().await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
            _ => Ok(answer),
        }
    };
    let answer = within(limit, asked).await;
    let answer: io::Result<Vec<u8>> = answer.ok_or_else(|| failure::silent(socket, line, limit))?;
    let answer = answer.map_err(|error| failure::unreachable(socket, &error))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let connected = within(LIMIT, UnixStream::connect(socket)).await;
    let connected = connected.ok_or_else(|| failure::silent(socket, "connect", LIMIT))?;
    connected.map_err(|error| failure::unreachable(socket, &error))
}

/// Cuts the answers of a worker apart.
struct Answers<'a> {
    socket: &'a Path,
    stream: ReadHalf<'a>,
    /// Bytes after the last prompt.
    buffer: Vec<u8>,
}

impl<'a> Answers<'a> {
    fn of(socket: &'a Path, stream: ReadHalf<'a>) -> Self {
        Self {
            socket,
            stream,
            buffer: Vec::new(),
        }
    }

    async fn read(mut self, lines: &[&str]) -> anyhow::Result<Vec<String>> {
        self.greet().await?;
        let mut answers = Vec::with_capacity(lines.len());
        for line in lines {
            answers.push(self.next(line).await?);
        }
        Ok(answers)
    }

    /// Makes sure that it is a worker's socket, before anything is believed.
    async fn greet(&mut self) -> anyhow::Result<()> {
        while self.buffer.len() < END.len() {
            self.more(PROMPT).await?;
        }
        if self.buffer.starts_with(END) {
            self.buffer.drain(..END.len());
            return Ok(());
        }
        // The rest of the first line, which tells an operator what it is.
        while self.buffer.len() < MASTERS_PROMPT.len() && self.more(PROMPT).await.is_ok() {}
        if self.buffer.starts_with(MASTERS_PROMPT) {
            return Err(failure::is_masters(self.socket));
        }
        let text = String::from_utf8_lossy(&self.buffer);
        Err(failure::strange(self.socket, &text))
    }

    async fn next(&mut self, line: &str) -> anyhow::Result<String> {
        let end = self.end(line).await?;
        let answer: Vec<u8> = self.buffer.drain(..end + END.len()).collect();
        let answer = String::from_utf8_lossy(&answer[..end]);
        Ok(answer.trim_matches('\n').to_owned())
    }

    /// The place of the next prompt.
    async fn end(&mut self, line: &str) -> anyhow::Result<usize> {
        let mut seen = 0;
        loop {
            let unseen = &self.buffer[seen..];
            if let Some(end) = unseen.windows(END.len()).position(|it| it == END) {
                return Ok(seen + end);
            }
            seen = (self.buffer.len() + 1).saturating_sub(END.len());
            self.more(line).await?;
        }
    }

    async fn more(&mut self, line: &str) -> anyhow::Result<()> {
        let read = within(LIMIT, self.stream.read_buf(&mut self.buffer)).await;
        match read.ok_or_else(|| failure::silent(self.socket, line, LIMIT))? {
            Ok(0) => Err(failure::lost(self.socket, line)),
            Ok(_) => Ok(()),
            Err(error) if is_lost(&error) => Err(failure::lost(self.socket, line)),
            Err(error) => Err(failure::unreachable(self.socket, &error)),
        }
    }
}

fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}
