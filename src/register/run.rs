//! `run`: joins the feed, the script and the store, and answers signals.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::stdout;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::introduction::introduction;
use super::status::Status;
use crate::base::address;
use crate::docker::{self, Daemon, Feed, Filters, Snapshot, Snapshots};
use crate::ops::log::Recent;
use crate::ops::outage::Outage;
use crate::ops::side_thread::SideThread;
use crate::ops::systemd;
use crate::policy::{ContainerView, Failure, Options, Report, Script, Source, Verdicts, World};
use crate::register::keeper::{OnExit, keep};
use crate::store::etcd::{Access, EtcdStore};
use crate::store::print::PrintStore;
use crate::store::{Identity, patience};
use crate::wanted::Wanted;

/// How long a script whose `run` has failed is left alone before it is started again.
const SCRIPT_PAUSE: Duration = Duration::from_secs(1);
/// How often the log is reminded of a `run` that fails in the same way again and again.
const REMINDER: Duration = Duration::from_secs(60);

/// What every command is told that looks at containers.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The policy: a file, or the name of a bundled one; the default one if none.
    pub script: Option<PathBuf>,
    /// What the policy reads, but for the host's address.
    pub options: Options,
    /// Whether the host's address was given, or has to be found.
    pub host_ip_given: bool,
    /// Where etcd is.
    pub etcd: Access,
    /// Which containers Docker shows.
    pub filters: Filters,
}

/// What `run` is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every command is told.
    pub asked: Asked,
    /// How often all containers are listed again.
    pub resync: Duration,
    /// What becomes of the keys at exit.
    pub on_exit: OnExit,
    /// Whether to print changes instead of writing them.
    pub dry_run: bool,
    /// Whether to log what the policy leaves out.
    pub explain: bool,
    /// The address on which others may ask how it goes, if any.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// How long keys live whose entries name no TTL.
    fn ttl(&self) -> Duration {
        Duration::from_secs(self.asked.options.ttl.into())
    }
}

/// Runs until a signal ends it, or the script is broken from the start. `recent` has the last warnings and errors, for
/// others to see.
pub async fn run(config: Config, recent: Recent) -> anyhow::Result<()> {
    // What can never work is not retried.
    docker::Endpoint::from_env()?;
    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let status = Arc::new(Status::default());
    let aside = SideThread::start(&config, &status, recent)?;
    let verdicts = Rc::new(RefCell::new(Verdicts::default()));
    let snapshots = watch::Sender::new(None);
    let answers = answer(&status, &verdicts, snapshots.subscribe());
    let work = work(
        config,
        &aside,
        &status,
        Rc::clone(&verdicts),
        snapshots,
        &mut signals,
        &mut hangup,
    );
    tokio::select! {
        // Whoever asks how it goes does not hold up what is to be done.
        biased;
        result = work => result,
        never = answers => match never {},
    }
}

/// What a policy reads etcd with.
pub fn reader(access: Access, ttl: u32) -> Rc<Mutex<EtcdStore>> {
    Rc::new(Mutex::new(EtcdStore::new(access, ttl)))
}

/// Finds the host's address for a run that writes nothing, where a guess does no harm.
pub async fn host_ip_or_loopback(asked: &mut Asked) {
    if asked.host_ip_given {
        return;
    }
    if let Ok(Some(address)) = address::toward(&asked.etcd.endpoints).await {
        asked.options.host_ip = address.to_string();
        return;
    }
    "127.0.0.1".clone_into(&mut asked.options.host_ip);
    warn!(
        "this host's address is not known, because etcd is on it or cannot be found: the keys have 127.0.0.1 in its \
         place; say --host-ip ADDRESS"
    );
}

/// Answers for the script's thread, whenever the script lets go.
async fn answer(status: &Status, verdicts: &RefCell<Verdicts>, snapshots: Snapshots) -> Infallible {
    loop {
        tokio::select! {
            () = status.alive.asked() => status.alive.answer(()),
            () = status.containers.asked() => {
                let mut views = verdicts.borrow().views();
                let newest = snapshots.borrow().clone();
                let unreadable = newest.iter().flat_map(|snapshot| &snapshot.unreadable);
                views.extend(unreadable.map(|container| ContainerView::unreadable(&container.name)));
                status.containers.answer(views);
            }
        }
    }
}

async fn work(
    mut config: Config,
    aside: &SideThread,
    status: &Arc<Status>,
    verdicts: Rc<RefCell<Verdicts>>,
    snapshot_sender: watch::Sender<Option<Arc<Snapshot>>>,
    signals: &mut Signals,
    hangup: &mut Signal,
) -> anyhow::Result<()> {
    tokio::select! {
        found = find_host_ip(&mut config, status) => found?,
        () = signals.end() => return Ok(()),
    }
    let (wanted_sender, wanted) = watch::channel(None);
    let world = World {
        path: config.asked.script.clone(),
        options: config.asked.options.clone(),
        source: Source::Live(snapshot_sender.subscribe()),
        reader: reader(config.asked.etcd.clone(), config.asked.options.ttl),
        wanted: wanted_sender,
        report: if config.explain {
            Report::All
        } else {
            Report::Failures
        },
        verdicts,
        condition: status.policy.clone(),
        errors: status.policy_errors.clone(),
    };
    // A broken script ends the program before anything is touched.
    let script = Script::load(world.clone()).map_err(|failure| anyhow!("{failure}"))?;
    info!("policy: {}", script.version());
    status.script.send_replace(script.version());
    let daemon = tokio::select! {
        daemon = ask_docker(&config, status) => daemon,
        () = signals.end() => return Ok(()),
    };
    let id = daemon.as_ref().map_or("", |daemon| &daemon.id);
    info!("{}", introduction(&config, daemon.as_ref())?);
    let identity = Identity::new(id, &config.asked.options.instance);
    let outage = Outage::new("Docker", "keys stay as they are", config.ttl());
    let feed = Feed {
        filters: config.asked.filters.clone(),
        resync: config.resync,
        ping: patience(config.asked.options.ttl),
        events: status.events.clone(),
        outage: outage.shown_by(&status.docker),
        snapshots: snapshot_sender,
    };
    let feed = tokio::spawn(feed.run(daemon));
    let (shutdown, ended) = oneshot::channel();
    let mut keeper = start_keeper(&config, aside, identity, wanted, Arc::clone(status), ended);
    let result = supervise(
        world,
        script,
        &status.script,
        feed,
        &mut keeper,
        signals,
        hangup,
    )
    .await;
    systemd::say_goodbye().await;
    // The keeper says goodbye to the store, unless somebody is in a hurry.
    drop(shutdown);
    if !keeper.is_finished() {
        tokio::select! {
            _ = keeper => {}
            () = signals.end() => info!("ending at once"),
        }
    }
    result
}

/// Drives the script through reloads and failures until a signal ends it.
async fn supervise(
    world: World,
    mut script: Script,
    version: &watch::Sender<String>,
    mut feed: JoinHandle<()>,
    keeper: &mut JoinHandle<()>,
    signals: &mut Signals,
    hangup: &mut Signal,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            // What an event has the script do comes before what hardly ever happens.
            biased;
            failure = drive(&world, &script) => bail!("{failure}"),
            ended = &mut feed => return ended.context("the watch of Docker broke down"),
            // Nobody reads what a dry run prints any more.
            ended = &mut *keeper => return ended.context("the work on etcd broke down"),
            () = signals.end() => return Ok(()),
            _ = hangup.recv() => match Script::load(world.clone()) {
                Ok(new) => {
                    info!("policy, loaded anew: {}", new.version());
                    version.send_replace(new.version());
                    script = new;
                }
                Err(failure) => error!("the policy cannot be loaded anew: {failure}\n  the one before stays in force"),
            },
        }
    }
}

/// Runs the script, again and again if it fails, for as long as it has ever said what it wants; its keys are kept
/// meanwhile. Returns why it never did.
async fn drive(world: &World, script: &Script) -> Failure {
    let mut said: Option<(Failure, Instant)> = None;
    loop {
        let failure = match script.run().await {
            Ok(()) => Failure::new(
                "the policy's `run` returned; it loops over `docker.watch()`, which never ends",
            ),
            Err(failure) => failure,
        };
        if world.wanted.borrow().is_none() {
            return failure;
        }
        world.condition.bad(&failure.to_string());
        if !matches!(&said, Some((last, at)) if *last == failure && at.elapsed() < REMINDER) {
            error!("{failure}\n  all keys stay as they were; `run` is started again every second");
            said = Some((failure, Instant::now()));
        }
        tokio::time::sleep(SCRIPT_PAUSE).await;
    }
}

fn start_keeper(
    config: &Config,
    aside: &SideThread,
    identity: Identity,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    status: Arc<Status>,
    ended: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    let shutdown = async {
        // It is over when the sender is dropped, which is an error here.
        let _ = ended.await;
    };
    let ttl = config.asked.options.ttl;
    if config.dry_run {
        // Whoever reads what it prints may let it wait.
        aside.spawn(keep(
            PrintStore::new(stdout()),
            identity,
            ttl,
            wanted,
            None,
            status,
            shutdown,
        ))
    } else {
        let store = EtcdStore::new(config.asked.etcd.clone(), ttl);
        tokio::spawn(keep(
            store,
            identity,
            ttl,
            wanted,
            Some(config.on_exit),
            status,
            shutdown,
        ))
    }
}

async fn find_host_ip(config: &mut Config, status: &Status) -> anyhow::Result<()> {
    if config.asked.host_ip_given {
        return Ok(());
    }
    if config.dry_run {
        host_ip_or_loopback(&mut config.asked).await;
        return Ok(());
    }
    let mut outage = Outage::new(
        "this host's route to etcd",
        "nothing is registered yet",
        config.ttl(),
    );
    loop {
        match address::toward(&config.asked.etcd.endpoints).await {
            Ok(Some(address)) => {
                outage.over();
                status.etcd.forget();
                info!("this host's address is {address}, from which it reaches etcd");
                config.asked.options.host_ip = address.to_string();
                return Ok(());
            }
            Ok(None) => bail!(
                "cannot tell under which address others reach this host, because etcd at {} is on the host itself; \
                 say --host-ip ADDRESS (or HOST_IP)",
                config.asked.etcd.endpoints.join(",")
            ),
            Err(error) => {
                let why = format!("{error:#}");
                status.etcd.bad(&why);
                tokio::time::sleep(outage.failed(why)).await;
            }
        }
    }
}

/// The Docker daemon, from which it derives whose keys these are; so Docker is waited for. A dry run needs none.
async fn ask_docker(config: &Config, status: &Arc<Status>) -> Option<Daemon> {
    if config.dry_run {
        return None;
    }
    let mut outage =
        Outage::new("Docker", "nothing is registered yet", config.ttl()).shown_by(&status.docker);
    loop {
        match Daemon::ask().await {
            Ok(daemon) => {
                outage.over();
                return Some(daemon);
            }
            Err(error) => tokio::time::sleep(outage.failed(format!("{error:#}"))).await,
        }
    }
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Until a signal comes that ends the program.
    async fn end(&mut self) {
        let name = self.next().await;
        info!("ending: {name}");
    }

    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
