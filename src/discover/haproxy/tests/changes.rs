//! Changes, and the state that is read back.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::{delete, disable, enable, eventually, maint, make, ready, server, servers};
use crate::discover::haproxy::testing::{Place, programs};
use crate::discover::haproxy::{Change, Health};
use crate::routes::Servers;

#[tokio::test]
async fn changes_are_read_back() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        let version = haproxy.version().await.unwrap();
        assert!(version.can_add_servers(), "{version}");
        let named = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter()
                .map(|(name, it)| ((*name).to_owned(), *it))
                .collect()
        };
        assert_eq!(
            servers(&haproxy).await,
            named(&[("a", false), ("b", false)])
        );

        let added = server(
            "c_127.0.0.1:3",
            3,
            "check inter 20ms fall 1 rise 1 weight 5",
        );
        let changes = [added, maint("a"), maint("b"), ready("b"), disable("front")];
        make(&haproxy, &changes).await;
        let expected = [("a", true), ("b", false), ("c_127.0.0.1:3", false)];
        assert_eq!(servers(&haproxy).await, named(&expected), "{version}");
        let running = haproxy.running().await.unwrap();
        assert!(!running.frontends["front"]);
        assert!(running.backends["empty"].is_empty());
        let web = &running.backends["web"];
        assert_eq!(web["a"].health, Health::Maint);
        assert_eq!(web["b"].health, Health::Unknown, "it is not checked");
        assert_eq!(
            web["c_127.0.0.1:3"].address,
            Some(([127, 0, 0, 1], 3).into())
        );
        eventually("its check to fail", || async {
            let running = haproxy.running().await.unwrap();
            running.backends["web"]["c_127.0.0.1:3"].health == Health::Down
        })
        .await;

        // Each once more changes nothing, and is no refusal.
        make(&haproxy, &[maint("a"), ready("b"), disable("front")]).await;
        make(&haproxy, &[enable("front"), enable("front")]).await;
        assert!(haproxy.running().await.unwrap().frontends["front"]);
    }
}

#[tokio::test]
async fn some_servers_are_read_back_alone() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        let known = haproxy.running().await.unwrap();
        let servers = |backend: &str, frontend: Option<&str>| Servers {
            backend: backend.into(),
            frontend: frontend.map(Into::into),
            servers: Vec::new(),
            lines: Vec::new(),
        };
        let [web, empty] = [servers("web", Some("front")), servers("empty", None)];
        let changes = [server("c", 3, ""), maint("a"), disable("front")];
        make(&haproxy, &changes).await;
        let of_other = haproxy.running_again(&known, &[&empty]).await.unwrap();
        assert_eq!(of_other, known);
        let again = haproxy.running_again(&known, &[&empty, &web]).await;
        assert_eq!(again.unwrap(), haproxy.running().await.unwrap());
        for strange in ["none", "a b", "a;b"] {
            let strange = servers(strange, None);
            assert!(haproxy.running_again(&known, &[&strange]).await.is_err());
        }
    }
}

#[tokio::test]
async fn connections_are_counted() {
    for program in programs() {
        let place = Place::new();
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = upstream.local_addr().unwrap().port();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        make(&haproxy, &[server("c", port, ""), maint("a"), maint("b")]).await;
        let client = UnixStream::connect(place.path("front")).unwrap();
        let sessions = || async {
            let running = haproxy.running().await.unwrap();
            running.backends["web"]["c"].sessions
        };
        eventually("the connection", || async { sessions().await == 1 }).await;
        drop(client);
        drop(upstream);
        eventually("its end", || async { sessions().await == 0 }).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_known_is_a_refusal_and_the_rest_goes_on() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        let changes = [
            server("a", 9, ""),
            server("c", 3, "nonsense"),
            server("d", 3, "check; quit"),
            ready("nobody"),
            disable("nothing"),
            server("e", 4, "check"),
        ];
        let refusals = haproxy.carry_out(&changes).await.unwrap();
        let said = |change: &Change| {
            let refusal = refusals.iter().find(|it| it.change == *change);
            refusal.map_or_else(String::new, ToString::to_string)
        };
        for (change, answer) in changes.iter().zip([
            "HAProxy did not add server `web/a` at 127.0.0.1:9: Already exists a server",
            "HAProxy did not add server `web/c` at 127.0.0.1:3: ",
            "HAProxy did not add server `web/d` at 127.0.0.1:3: `;` is not allowed",
            "HAProxy did not set server `web/nobody` ready: No such server.",
            "HAProxy did not disable frontend `nothing`: No such frontend.",
            "",
        ]) {
            assert!(said(change).starts_with(answer), "{}", said(change));
        }
        assert!(
            said(&changes[1]).contains("nonsense"),
            "{}",
            said(&changes[1])
        );
        assert_eq!(refusals.len(), 5);
        assert!(servers(&haproxy).await.contains(&("e".to_owned(), false)));
    }
}

#[tokio::test]
async fn a_thousand_servers_are_added_at_once() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        let add = |i: u16| server(&format!("s{i}"), 1000 + i, "weight 1");
        let changes: Vec<Change> = (0..1000).map(add).collect();
        let begun = Instant::now();
        make(&haproxy, &changes).await;
        let took = begun.elapsed();
        let begun = Instant::now();
        assert_eq!(servers(&haproxy).await.len(), 1002);
        let version = haproxy.version().await.unwrap();
        eprintln!(
            "{version}: 1000 added in {took:?}, read in {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn a_server_is_deleted_only_from_maintenance() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        if !haproxy.version().await.unwrap().can_delete_servers() {
            continue;
        }
        let refusals = haproxy.carry_out(&[delete("a")]).await.unwrap();
        assert!(
            refusals[0]
                .answer
                .contains("Only servers in maintenance mode"),
            "{refusals:?}"
        );
        make(&haproxy, &[maint("a"), delete("a"), delete("a")]).await;
        assert_eq!(servers(&haproxy).await, [("b".to_owned(), false)]);
    }
}

#[tokio::test]
async fn a_socket_without_rights_to_change_is_named() {
    for program in programs() {
        let place = Place::new();
        let config = fs::read_to_string(place.file()).unwrap();
        fs::write(
            place.file(),
            config.replace("level admin", "level operator"),
        )
        .unwrap();
        let _running = place.start(&program).await;
        let refusals = place
            .haproxy()
            .carry_out(&[server("c", 3, "")])
            .await
            .unwrap();
        let said = refusals[0].to_string();
        assert!(
            said.ends_with("Give its `stats socket` the option `level admin`."),
            "{said}"
        );
    }
}
