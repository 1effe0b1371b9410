//! Limits how many connections are open and for how long, so that slow clients neither use up the descriptors that
//! Docker and etcd need nor keep a health check waiting.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};

/// The most connections at a time. A further one displaces the oldest that has not sent its request. If all have sent
/// theirs, it waits.
const MOST: usize = 64;
/// The time limit of a connection.
const LONGEST: Duration = Duration::from_secs(20);
/// The time limit for a request's head.
const HEAD: Duration = Duration::from_secs(2);
/// The time during which a new connection cannot be displaced. A health check sends its request sooner. It also limits
/// the work that clients cause when they reconnect as soon as they are displaced.
const GRACE: Duration = Duration::from_millis(10);
/// The kernel's queue of connections that are not accepted yet. It drops further ones, and their clients retry only
/// after a second. The usual 128 are too few for 200 slow clients.
const WAITING: u32 = 1024;

pub struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    /// The connections that have not sent their request's head, oldest first. Some may have sent it since.
    silent: VecDeque<Silent>,
}

/// A connection with a time limit.
pub struct Connection {
    stream: TcpStream,
    since: Instant,
    deadline: Pin<Box<Sleep>>,
    /// Released after the stream, which is dropped first.
    _place: Option<OwnedSemaphorePermit>,
    /// None once the head has been read.
    awaited: Option<Awaited>,
}

/// A request's head that has not been read to its end.
struct Awaited {
    head: Head,
    /// Dropped when the head has been read or the connection has ended.
    displaced: mpsc::Receiver<()>,
}

/// The listener's end of [`Awaited`].
struct Silent {
    since: Instant,
    displace: mpsc::Sender<()>,
}

/// Finds the end of a request's head: an empty line after others. As in hyper, a line feed alone ends a line.
#[derive(Default)]
struct Head {
    has_begun: bool,
    is_at_line_start: bool,
}

impl Bounded {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // So that a restart can bind the address at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            listener: socket.listen(WAITING)?,
            free: Arc::new(Semaphore::new(MOST)),
            silent: VecDeque::new(),
        })
    }

    /// Waits for a free place, and displaces the oldest silent connection if there is none.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            // It fails only if the semaphore is closed, which never happens.
            let free = Arc::clone(&self.free).acquire_owned();
            let Some(oldest) = self.silent.front() else {
                return free.await.ok();
            };
            select! {
                biased;
                place = free => return place.ok(),
                () = oldest.give_way() => drop(self.silent.pop_front()),
            }
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let place = self.place().await;
        let since = Instant::now();
        let (displace, displaced) = mpsc::channel(1);
        self.silent.retain(|silent| !silent.displace.is_closed());
        self.silent.push_back(Silent { since, displace });
        let connection = Connection {
            stream,
            since,
            deadline: Box::pin(sleep_until(since + HEAD)),
            _place: place,
            awaited: Some(Awaited {
                head: Head::default(),
                displaced,
            }),
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Silent {
    /// Displaces the connection, and waits until it has ended or has sent its head.
    async fn give_way(&self) {
        select! {
            biased;
            () = self.displace.closed() => return,
            () = sleep_until(self.since + GRACE) => {}
        }
        // The channel has room for one message, and only one is sent.
        let _ = self.displace.try_send(());
        self.displace.closed().await;
    }
}

impl Connection {
    fn note(&mut self, bytes: &[u8]) {
        if let Some(awaited) = &mut self.awaited
            && awaited.head.ends_in(bytes)
        {
            self.awaited = None;
            self.deadline.as_mut().reset(self.since + LONGEST);
        }
    }

    /// The result of a read or a write: an error if it would have to wait and the connection's time is over or it is
    /// displaced. Bytes that have already arrived are read first, however late.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        if let Some(awaited) = &mut self.awaited
            && awaited.displaced.poll_recv(context).is_ready()
        {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Poll::Pending
    }
}

impl Head {
    /// Whether the head ends in these bytes, which follow those of earlier calls.
    fn ends_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match byte {
                b'\n' if self.has_begun && self.is_at_line_start => return true,
                b'\n' => self.is_at_line_start = true,
                b'\r' => {}
                _ => (self.has_begun, self.is_at_line_start) = (true, false),
            }
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.note(&buffer.filled()[known..]);
        self.in_time(context, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of a head that arrives a byte at a time.
    fn end(text: &str) -> Option<usize> {
        let mut head = Head::default();
        text.bytes()
            .position(|byte| head.ends_in(&[byte]))
            .map(|at| at + 1)
    }

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        for (text, wanted) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /", Some(27)),
            ("GET / HTTP/1.0\n\nmore", Some(16)),
            ("GET / HTTP/1.0\n\r\n", Some(17)),
            ("\r\n\r\nGET / HTTP/1.0\r\n\r\n", Some(22)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", None),
            ("\r\n\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(end(text), wanted, "{text:?}");
            assert_eq!(Head::default().ends_in(text.as_bytes()), wanted.is_some());
        }
    }
}
