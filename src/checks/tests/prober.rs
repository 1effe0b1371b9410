//! The verdicts of a running prober.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

use super::{check, nobody, serve_text};
use crate::checks::prober::Prober;
use crate::checks::{ChecksStatus, Judged, Order, Target, TargetId, Verdict};
use crate::wanted::check::{Kind, Probe, Tcp};
use crate::wanted::{Check, ContainerName};

/// The longest time to wait for anything.
const SOON: Duration = Duration::from_secs(10);

/// A running prober.
struct Running {
    status: ChecksStatus,
    orders: UnboundedSender<Vec<Order>>,
    judged: UnboundedReceiver<Judged>,
}

impl Running {
    fn start() -> Self {
        let status = ChecksStatus::default();
        let (orders, received) = unbounded_channel();
        let (judge, judged) = unbounded_channel();
        tokio::spawn(Prober::new(status.clone(), received, judge, false).run());
        Self {
            status,
            orders,
            judged,
        }
    }

    fn begin(&self, id: u64, check: Check, at_once: bool) {
        let name = format!("c{id}");
        let target = Target {
            who: ContainerName {
                id: name.as_str().into(),
                name: name.as_str().into(),
            },
            check: Arc::new(check),
            not_before: Duration::ZERO,
        };
        let id = TargetId(id);
        let order = Order::Begin {
            id,
            target,
            at_once,
        };
        self.orders.send(vec![order]).expect("a prober");
    }

    async fn next(&mut self) -> (u64, bool) {
        let judged = timeout(SOON, self.judged.recv()).await;
        let judged = judged.expect("a verdict").expect("a prober");
        (judged.id.0, judged.passes)
    }

    async fn verdicts(&self) -> BTreeMap<u64, Verdict> {
        let views = self.status.views.ask_within(SOON).await.expect("an answer");
        let number = |name: &str| name[1..].parse().expect("a number");
        let verdicts = views
            .iter()
            .map(|view| (number(&view.who.name), view.verdict));
        verdicts.collect()
    }
}

fn often(address: &str) -> Check {
    Check {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        ..check(address)
    }
}

#[tokio::test]
async fn a_service_is_judged_as_it_comes_and_goes() {
    let mut running = Running::start();
    let address = nobody().await;
    running.begin(1, often(&address), true);
    assert_eq!(running.next().await, (1, false));
    let listener = TcpListener::bind(&address).await.expect("the address");
    assert_eq!(running.next().await, (1, true));
    assert_eq!(running.verdicts().await[&1], Verdict::Passes);
    drop(listener);
    assert_eq!(running.next().await, (1, false));
    let views = running.status.views.ask_within(SOON).await.expect("views");
    assert_eq!(views[0].trouble.as_deref(), Some("connection refused"));
    running
        .orders
        .send(vec![Order::End(TargetId(1))])
        .expect("a prober");
    assert!(running.verdicts().await.is_empty());
}

#[tokio::test]
async fn a_thousand_silent_services_leave_room_for_one_that_answers() {
    let mut running = Running::start();
    let silent = serve_text("", true).await;
    let tcp = |address: &str| Check {
        probe: Some(Probe {
            address: address.into(),
            kind: Kind::Tcp(Tcp {
                send: "".into(),
                expect: "+PONG".into(),
            }),
        }),
        fall: 1,
        ..often(address)
    };
    for id in 1000..2000 {
        running.begin(id, tcp(&silent), true);
    }
    // Each has been silent once.
    for _ in 0..1000 {
        assert!(!running.next().await.1);
    }
    let good = often(&silent); // It accepts connections.
    let begun = Instant::now();
    running.begin(1, good, true);
    assert_eq!(running.next().await, (1, true));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}
