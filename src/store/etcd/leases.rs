//! Grants and renews many leases in little time. One stream renews many leases, which the client's own cannot.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use etcd_client::{Error, LeaseClient, LeaseGrantOptions};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::connection::Connection;
use super::link::{Channel, Link};
use super::seconds;
use crate::store::{LeaseId, StoreError};

/// The number of leases that are granted or renewed under one time limit.
const LEASES_IN_A_CALL: usize = 256;
/// The number of them that are granted at a time. etcd writes several together to its disk.
const GRANTS_AT_ONCE: usize = 64;
/// The number of them that one stream renews. A follower renews them one after another, at its leader.
const LEASES_IN_A_STREAM: usize = 16;
/// How long such a stream is waited for.
const QUICK: Duration = Duration::from_millis(50);
/// How long renewals are waited for before a lease is looked at: longer than the pause of etcd's gRPC proxy between
/// two renewals, which is half a second.
const PATIENCE: Duration = Duration::from_millis(600);

/// etcd's method for renewals (its `rpc.proto`).
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// etcd's message for the grant of a lease that exists (`ErrGRPCLeaseExist` in its `rpctypes/error.go`).
const LEASE_EXISTS: &str = "lease already exists";

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// The lease lives for so many seconds.
    Lives(u32),
    /// The lease does not exist.
    Missing,
    /// etcd answers, but has not renewed the lease yet.
    Late,
}

/// Renews leases. Returns the seconds that each lives, without missing leases.
pub async fn renew(
    connection: &mut Connection,
    leases: &[LeaseId],
) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
    let patience = patience(connection);
    let mut answers = Vec::with_capacity(leases.len());
    for some in leases.chunks(LEASES_IN_A_CALL) {
        let renew = |(client, channel)| renew_or_look(client, channel, some, patience);
        answers.extend(connection.call(parts, renew).await?);
    }
    renew_late(connection, answers).await
}

/// Grants leases, or renews those that exist. Returns the seconds that each lives.
pub async fn grant(
    connection: &mut Connection,
    leases: &[LeaseId],
) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
    let patience = patience(connection);
    let mut answers = Vec::with_capacity(leases.len());
    for some in leases.chunks(LEASES_IN_A_CALL) {
        let grant = |(client, channel)| grant_or_renew(client, channel, some, patience);
        answers.extend(connection.call(parts, grant).await?);
    }
    renew_late(connection, answers).await
}

/// Whether etcd refused to grant a lease because it exists.
pub fn exists_already(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(LEASE_EXISTS))
}

fn parts(link: &Link) -> (LeaseClient, Channel) {
    (link.leases(), link.channel())
}

fn patience(connection: &Connection) -> Duration {
    PATIENCE.min(connection.limit() * 3 / 5)
}

/// Renews late leases once more, without a look.
async fn renew_late(
    connection: &mut Connection,
    answers: Vec<(LeaseId, Renewal)>,
) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
    let (mut alive, mut late) = (BTreeMap::new(), Vec::new());
    for (lease, renewal) in answers {
        match renewal {
            Renewal::Lives(seconds) => drop(alive.insert(lease, seconds)),
            Renewal::Late => late.push(lease),
            Renewal::Missing => {}
        }
    }
    // The call's own limit ends it.
    let patience = connection.limit() * 2;
    for some in late.chunks(LEASES_IN_A_CALL) {
        let renew = |channel| renew_each(channel, some, patience);
        let again = connection.call(Link::channel, renew).await?;
        alive.extend(again.into_iter().filter_map(|(lease, renewal)| {
            let Renewal::Lives(seconds) = renewal else {
                return None;
            };
            Some((lease, seconds))
        }));
    }
    Ok(alive)
}

async fn grant_or_renew(
    client: LeaseClient,
    channel: Channel,
    leases: &[LeaseId],
    patience: Duration,
) -> Result<Vec<(LeaseId, Renewal)>, Error> {
    let grants = leases.iter().copied().map(|lease| {
        let client = client.clone();
        async move { (lease, grant_one(client, lease).await) }
    });
    let grants: Vec<_> = stream::iter(grants)
        .buffer_unordered(GRANTS_AT_ONCE)
        .collect()
        .await;
    let (mut answers, mut errors) = (Vec::with_capacity(leases.len()), BTreeMap::new());
    for (lease, granted) in grants {
        match granted {
            Ok(seconds) => answers.push((lease, Renewal::Lives(seconds))),
            Err(error) => drop(errors.insert(lease, error)),
        }
    }
    // The other leases are from an earlier process, or from another registrar that wants the same shared key. An etcd
    // without space grants no lease, and renews leases that exist.
    let others: Vec<LeaseId> = errors.keys().copied().collect();
    let renewals = renew_or_look(client.clone(), channel, &others, patience).await;
    for (lease, renewal) in renewals.unwrap_or_default() {
        let Some(error) = errors.remove(&lease) else {
            continue;
        };
        answers.push((
            lease,
            match renewal {
                // It had expired, and has been ended meanwhile: after thousands have expired, etcd is busy for seconds.
                Renewal::Missing if exists_already(&error) => {
                    Renewal::Lives(grant_one(client.clone(), lease).await?)
                }
                Renewal::Missing => return Err(error),
                renewal => renewal,
            },
        ));
    }
    match errors.into_values().next() {
        Some(error) => Err(error),
        None => Ok(answers),
    }
}

async fn grant_one(mut client: LeaseClient, lease: LeaseId) -> Result<u32, Error> {
    let options = LeaseGrantOptions::new().with_id(lease.0);
    let reply = client.grant(i64::from(lease.ttl()), Some(options)).await?;
    Ok(seconds(reply.ttl()))
}

/// Renews leases, and looks at those that are late, whether somebody else has renewed them.
///
/// etcd's gRPC proxy renews a lease for all clients that ask for it at a time, and not again before a third of its TTL.
/// A client that asks shortly after another waits for so long, although the lease has just been renewed. A stream that
/// stays open is no remedy: each renewal on it waits likewise, and the proxy goes on for a client that has died.
async fn renew_or_look(
    client: LeaseClient,
    channel: Channel,
    leases: &[LeaseId],
    patience: Duration,
) -> Result<Vec<(LeaseId, Renewal)>, Error> {
    let answers = renew_each(channel, leases, patience).await?.into_iter();
    let answers = answers.map(|(lease, renewal)| {
        let client = client.clone();
        async move {
            Ok::<_, Error>(match renewal {
                Renewal::Late => (lease, look(client, lease).await),
                renewal => (lease, renewal),
            })
        }
    });
    stream::iter(answers)
        .buffer_unordered(GRANTS_AT_ONCE)
        .try_collect()
        .await
}

/// Looks whether somebody else has renewed a lease.
async fn look(mut client: LeaseClient, lease: LeaseId) -> Renewal {
    // After an error of the look, another renewal shows what is wrong.
    let look = client.time_to_live(lease.0, None).await;
    let (left, ttl) = (look.map_or(0, |found| seconds(found.ttl())), lease.ttl());
    // The id of a seat has no TTL: only a renewal of our own shows that it is ours.
    if ttl > 0 && left * 2 >= ttl {
        Renewal::Lives(left)
    } else {
        Renewal::Late
    }
}

/// Renews leases, many on one stream. Those without an answer after `patience` are late.
///
/// If that is slow, each lease has a stream of its own, which ends with its answer: the proxy answers others for a
/// lease no sooner than for the streams that are open for it.
async fn renew_each(
    channel: Channel,
    leases: &[LeaseId],
    patience: Duration,
) -> Result<Vec<(LeaseId, Renewal)>, Error> {
    let on_streams = async |leases: &[LeaseId], number, patience| {
        let streams = leases.chunks(number);
        let streams = streams.map(|some| renew_on_a_stream(channel.clone(), some, patience));
        try_join_all(streams).await.map(|answers| answers.concat())
    };
    let mut answers = on_streams(leases, LEASES_IN_A_STREAM, QUICK).await?;
    let late = answers.extract_if(.., |(_, renewal)| *renewal == Renewal::Late);
    let late: Vec<LeaseId> = late.map(|(lease, _)| lease).collect();
    answers.extend(on_streams(&late, 1, patience).await?);
    Ok(answers)
}

async fn renew_on_a_stream(
    channel: Channel,
    leases: &[LeaseId],
    patience: Duration,
) -> Result<Vec<(LeaseId, Renewal)>, Error> {
    let mut renewals: BTreeMap<LeaseId, Renewal> =
        leases.iter().map(|lease| (*lease, Renewal::Late)).collect();
    let renewed = timeout(patience, async {
        // Its end, also by the time limit, ends the stream: the client goes on as long as there may be more requests.
        let (_until_dropped, over) = oneshot::channel::<Infallible>();
        let mut answers = open_stream(channel, leases, over).await?;
        for _ in leases {
            let Some(answer) = answers.message().await? else {
                return Err(Status::unavailable("etcd ended a stream of renewals"));
            };
            if let Some(renewal) = renewals.get_mut(&LeaseId(answer.id)) {
                // A lease that does not exist has the TTL 0, behind etcd's gRPC proxy -1.
                *renewal = match answer.ttl {
                    ..=0 => Renewal::Missing,
                    ttl => Renewal::Lives(seconds(ttl)),
                };
            }
        }
        Ok(())
    })
    .await;
    match renewed {
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(())) | Err(_) => Ok(renewals.into_iter().collect()),
    }
}

async fn open_stream(
    channel: Channel,
    leases: &[LeaseId],
    over: oneshot::Receiver<Infallible>,
) -> Result<tonic::Streaming<KeptAlive>, Status> {
    let mut grpc = Grpc::new(channel.connection.clone());
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::from_error(Box::new(error)))?;
    let requests: Vec<_> = leases
        .iter()
        .map(|lease| KeepAlive { id: lease.0 })
        .collect();
    // The requests stay open until then, because the proxy answers no more after their end.
    let requests = stream::iter(requests).chain(stream::pending());
    let mut request = Request::new(requests.take_until(over));
    // A member that has lost its cluster says so.
    let mut headers = HeaderMap::new();
    headers.insert("hasleader", HeaderValue::from_static("true"));
    channel.identify(&mut headers);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let path = PathAndQuery::from_static(KEEP_ALIVE);
    let answers = grpc.streaming(request, path, ProstCodec::default()).await?;
    Ok(answers.into_inner())
}

/// The fields of etcd's `LeaseKeepAliveRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct KeepAlive {
    #[prost(int64, tag = "1")]
    id: i64,
}

/// The fields of etcd's `LeaseKeepAliveResponse`, without its header.
#[derive(Clone, PartialEq, prost::Message)]
struct KeptAlive {
    #[prost(int64, tag = "2")]
    id: i64,
    /// In seconds.
    #[prost(int64, tag = "3")]
    ttl: i64,
}
