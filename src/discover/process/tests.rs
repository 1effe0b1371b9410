//! Supervision of every real `HAProxy` that there is, and of small programs that end, hang or say nothing.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::process::{getpgid, test_kill_process};

use super::*;
use crate::discover::haproxy::Change;
use crate::discover::haproxy::testing::{Place, SOON, programs};
use crate::discover::refused::Refused;

fn settings(program: &Path, place: &Place) -> Settings {
    Settings::haproxy(program.as_os_str(), &place.file(), &place.path("master"))
}

async fn haproxy_check(program: &OsStr, file: &Path) -> Result<(), Refused> {
    check(program, &["-c", "-f"], file).await
}

fn shell(script: &str) -> Settings {
    Settings {
        command: ["sh", "-c", script].map(OsString::from).to_vec(),
        kind: Kind::Haproxy { master: None },
    }
}

/// Kills it, and waits for the news. There is no time limit, because a test's own time would run out at once.
async fn kill(process: &mut Process) -> Death {
    kill_process(process.pid().unwrap(), Signal::KILL).unwrap();
    process.died().await
}

/// Stops it with a short time limit.
async fn stop(mut process: Process) {
    process.stop(Duration::from_millis(100)).await;
    assert_eq!(process.pid(), None);
}

#[tokio::test]
async fn a_proxy_that_dies_is_started_again() {
    for program in programs() {
        let place = Place::new();
        let mut process = Process::start(settings(&program, &place)).await.unwrap();
        assert!(!process.is_adopted());
        place.wait_for_answers().await;
        let first = process.pid().unwrap();
        assert_eq!(
            getpgid(Some(first)),
            Ok(first),
            "a terminal's Ctrl-C does not reach it"
        );
        let workers = place.haproxy().workers().await.unwrap();
        assert_eq!(workers.master, first.as_raw_nonzero().get());

        // A dead worker ends its master.
        let worker = Pid::from_raw(workers.current.unwrap()).unwrap();
        kill_process(worker, Signal::KILL).unwrap();
        let death = timeout(SOON, process.died())
            .await
            .expect("its death is noticed");
        assert_eq!(
            death.to_string(),
            "has ended, because a worker died of signal 9"
        );
        assert_eq!(process.pid(), None);
        process.restart().await;
        place.wait_for_answers().await;
        assert_ne!(process.pid().unwrap(), first);
        stop(process).await;
        assert!(place.haproxy().workers().await.is_err());
    }
}

#[tokio::test]
async fn a_proxy_that_was_left_is_adopted_and_started_again_when_it_dies() {
    for program in programs() {
        let place = Place::new();
        let first = Process::start(settings(&program, &place)).await.unwrap();
        place.wait_for_answers().await;
        let pid = first.pid().unwrap();
        // From here on, nobody reads its output.
        first.leave();

        let mut second = Process::start(settings(&program, &place)).await.unwrap();
        assert!(second.is_adopted());
        assert_eq!(second.pid(), Some(pid));
        let haproxy = place.haproxy();
        place.configure("nonsense\n");
        assert!(matches!(haproxy.reload().await, Err(Refused::Bad(_))));
        place.configure("");
        haproxy.reload().await.unwrap();
        let (backend, name) = ("web".into(), "a".into());
        let change = [Change::Maint { backend, name }];
        assert_eq!(haproxy.carry_out(&change).await.unwrap(), []);
        assert_eq!(
            haproxy.workers().await.unwrap().master,
            pid.as_raw_nonzero().get()
        );
        assert!(
            timeout(Duration::from_millis(50), second.died())
                .await
                .is_err()
        );

        assert_eq!(kill(&mut second).await, Death::Unknown);
        // Its last worker ends by itself.
        while haproxy.running().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.restart().await;
        assert!(!second.is_adopted());
        place.wait_for_answers().await;
        stop(second).await;
    }
}

#[tokio::test]
async fn open_connections_end_before_a_proxy_is_stopped_or_at_the_limit() {
    for program in programs() {
        for ends in [true, false] {
            let place = Place::new();
            let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let config = fs::read_to_string(place.file()).unwrap();
            let server = upstream.local_addr().unwrap().to_string();
            fs::write(
                place.file(),
                config
                    .replace("127.0.0.1:1", &server)
                    .replace("127.0.0.1:2", &server),
            )
            .unwrap();
            let mut process = Process::start(settings(&program, &place)).await.unwrap();
            place.wait_for_answers().await;
            let client = UnixStream::connect(place.path("front")).unwrap();
            let accepted = upstream.accept().unwrap();
            let pid = process.pid().unwrap();
            if ends {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    drop((client, accepted));
                });
                let graceful = timeout(SOON, process.stop(2 * SOON)).await;
                graceful.expect("it waits no longer than for the connection");
            } else {
                process.stop(Duration::from_millis(200)).await;
                drop((client, accepted));
            }
            assert_eq!(process.pid(), None);
            assert!(test_kill_process(pid).is_err(), "it has ended");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_keeps_ending_is_started_ever_later() {
    let mut process = Process::start(shell("exit 3")).await.unwrap();
    for wait in [0, 1, 2, 4, 8, 16, 30, 30] {
        let death = process.died().await;
        assert_eq!(death.to_string(), "has ended with status 3");
        let begun = Instant::now();
        // A restart that is given up and tried again waits no longer in all.
        let _ = timeout(Duration::from_millis(1), process.restart()).await;
        process.restart().await;
        assert_eq!(begun.elapsed().as_secs(), wait);
    }
    process.died().await;
    process.settings = shell("sleep 1000");
    process.restart().await;
    tokio::time::advance(STEADY).await;
    kill(&mut process).await;
    let begun = Instant::now();
    process.restart().await;
    assert_eq!(begun.elapsed().as_secs(), 0, "it ran steadily");
    kill(&mut process).await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_be_started_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    let write = || {
        fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let settings = Settings {
        command: vec![program.clone().into()],
        kind: Kind::Haproxy { master: None },
    };
    let missing = Process::start(settings.clone())
        .await
        .err()
        .expect("it is missing");
    assert!(
        format!("{missing:#}").contains("cannot start `"),
        "{missing:#}"
    );
    write();
    let mut process = Process::start(settings).await.unwrap();
    fs::remove_file(&program).unwrap();
    kill(&mut process).await;
    let _ = timeout(Duration::from_secs(2), process.restart()).await;
    assert_eq!(process.pid(), None);
    write();
    process.restart().await;
    kill(&mut process).await;
}

#[tokio::test(start_paused = true)]
async fn no_proxy_is_started_beside_one_that_hangs() {
    let place = Place::new();
    let _silent = UnixListener::bind(place.path("master")).unwrap();
    let error = Process::start(settings("false".as_ref(), &place)).await;
    let error = format!("{:#}", error.err().expect("it is refused"));
    assert!(
        error.starts_with("no HAProxy is started, because one may be running: "),
        "{error}"
    );
    assert!(error.contains("restart it"), "{error}");
}

#[tokio::test]
async fn output_is_kept_line_by_line() {
    let script = "echo one; printf '[ALERT] two\\033\\n\\nthree\\377\\n' >&2; printf four";
    let mut process = Process::start(shell(script)).await.unwrap();
    process.died().await;
    let lines = || process.lines_since(process.began);
    let begun = std::time::Instant::now();
    while lines().len() < 4 {
        assert!(begun.elapsed() < SOON, "{:?}", lines());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut lines = lines();
    lines.sort();
    assert_eq!(
        lines,
        ["[ALERT] two\\u{1b}", "four", "one", "three\u{fffd}"]
    );
}

#[tokio::test]
async fn a_configuration_is_checked() {
    for program in programs() {
        let place = Place::new();
        haproxy_check(program.as_ref(), &place.file())
            .await
            .unwrap();
        place.configure("backend more\n  nonsense here\n");
        let error = haproxy_check(program.as_ref(), &place.file())
            .await
            .unwrap_err();
        let Refused::Bad(lines) = error else {
            panic!("{error:?}");
        };
        assert!(
            lines.iter().any(|line| line.contains("nonsense")),
            "{lines:?}"
        );
        for text in ["", "global\n"] {
            fs::write(place.file(), text).unwrap();
            let error = haproxy_check(program.as_ref(), &place.file()).await;
            assert!(matches!(error, Err(Refused::Bad(_))), "{error:?}");
        }
        fs::remove_file(place.file()).unwrap();
        let error = haproxy_check(program.as_ref(), &place.file()).await;
        assert!(matches!(error, Err(Refused::Bad(_))), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_made_is_no_refusal() {
    let place = Place::new();
    let error = haproxy_check("/nonexistent/haproxy".as_ref(), &place.file()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Refused::Unknown(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("install it, or name another program"),
        "{error}"
    );

    let program = place.path("program");
    fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let error = haproxy_check(program.as_ref(), &place.file())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("takes longer than 10 s to check the configuration"),
        "{error}"
    );
}
