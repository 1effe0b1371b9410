//! Connections to Docker: a socket, TCP, TLS, a socket proxy that allows few requests, and Podman; and the messages if
//! there is no connection.

use crate::common;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{
    BARE, Container, Dockerd, HOST_IP, Podman, Proxy, Recorder, RegistrarBuilder, SOON, Script,
    TestBed, WEB, as_root, count, docker, eventually, in_step, map, the_docker, warnings, web_keys,
};
use tempfile::TempDir;

/// All requests to Docker. The README lists them for socket proxies.
const ENDPOINTS: [&str; 5] = [
    "GET /_ping",
    "GET /containers/json",
    "GET /containers/{id}/json",
    "GET /events",
    "GET /info",
];

/// A directory with the certificates of a CA, a client, and a server for 127.0.0.1.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let certificates = Certificates(tempfile::tempdir().expect("a temporary directory"));
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        certificates.openssl(&format!(
            "req -x509 {new_key} -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem"
        ));
        let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        fs::write(certificates.path("extensions"), extensions).expect("a file can be written");
        for name in ["", "server-"] {
            certificates.openssl(&format!(
                "req {new_key} -subj /CN={name}docker -keyout {name}key.pem -out {name}request"
            ));
            certificates.openssl(&format!(
                "x509 -req -in {name}request -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions \
                 -out {name}cert.pem"
            ));
        }
        certificates
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output()
            .expect("`openssl` can be run");
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Copies some of the files to another directory.
    fn copy(&self, names: &[&str], to: &Path) {
        for name in names {
            fs::copy(self.path(name), to.join(name)).expect("a file can be copied");
        }
    }
}

/// The socket of the tests' Docker. Docker at a TCP address cannot be put behind the proxy.
fn the_socket() -> PathBuf {
    let host = the_docker();
    let path = host.strip_prefix("unix://");
    path.expect("the tests' Docker has a socket").into()
}

/// The lines that `keys` prints, or its error.
#[track_caller]
fn keys_of(registrar: &RegistrarBuilder) -> Result<String, String> {
    let output = registrar.run("keys");
    if output.status.success() {
        return Ok(output.stdout);
    }
    assert_eq!(output.stdout, "");
    Err(output.stderr)
}

#[track_caller]
fn assert_no_difference(registrar: &RegistrarBuilder) {
    let output = registrar.run("diff");
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
}

#[test]
fn docker_is_reached_over_tcp() {
    let bed = TestBed::new();
    // A TCP proxy to the socket of the tests' Docker, which itself does not listen on TCP.
    let tcp = Proxy::tcp(&the_docker());
    let at = |host: String| bed.registrar().env("DOCKER_HOST", host);
    let registrar = at(format!("tcp://{}", tcp.address())).env("DOCKER_TLS_VERIFY", "");
    let registrar = in_step(&registrar);
    let web = bed.container().publish_all().start();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    web.stop();
    bed.wait_for_keys(&map::<&str, &str>([]), SOON);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());

    web.start();
    for host in [format!("http://{}", tcp.address()), tcp.address()] {
        let keys = keys_of(&at(host));
        assert_eq!(keys.map(|keys| keys.lines().count()), Ok(4));
    }

    // A registrar with TLS gets the error that Docker has none.
    let certificates = Certificates::new();
    let secure = at(format!("tcp://{}", tcp.address()))
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", certificates.0.path());
    assert_eq!(
        keys_of(&secure),
        Err(format!(
            "error: cannot reach Docker at `tcp://{}`: the daemon does not use TLS; unset DOCKER_TLS_VERIFY\n",
            tcp.address()
        ))
    );
}

/// A daemon with TLS on port 2376 of its own network, which requires a client certificate.
fn daemon_with_tls(certificates: &Certificates) -> Dockerd {
    let path = |name: &str| certificates.path(name).display().to_string();
    let arguments = [
        "--host=tcp://127.0.0.1:2376",
        "--tlsverify",
        &format!("--tlscacert={}", path("ca.pem")),
        &format!("--tlscert={}", path("server-cert.pem")),
        &format!("--tlskey={}", path("server-key.pem")),
    ];
    Dockerd::start_with(WEB, arguments)
}

#[test]
fn docker_is_reached_over_tls_and_a_wrong_certificate_is_explained() {
    let bed = TestBed::new();
    let certificates = Certificates::new();
    let daemon = daemon_with_tls(&certificates);
    let tls = Proxy::tcp(&daemon.way_to(2376));
    let host = format!("tcp://{}", tls.address());
    let with = |verify: &str, directory: &Path| {
        bed.registrar()
            .env("DOCKER_HOST", &host)
            .env("DOCKER_TLS_VERIFY", verify)
            .env("DOCKER_CERT_PATH", directory)
    };
    let service = [
        "--label",
        &bed.filter()["label=".len()..],
        "--env",
        "SERVICE_NAME=web",
    ];
    let id = daemon.run(WEB, &service);
    let keys = [("web/1", "8005"), ("web/2", "8006")]
        .into_iter()
        .flat_map(|(directory, port)| {
            [
                (
                    format!("{directory}/{}", &id[..12]),
                    format!("{HOST_IP}:{port}"),
                ),
                (format!("{directory}/port"), port.to_owned()),
            ]
        });
    let keys = map(keys);

    // Any value turns it on, and the certificates are in the home directory by default.
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(home.path().join(".docker")).expect("a directory can be made");
    let all = ["ca.pem", "cert.pem", "key.pem"];
    certificates.copy(&all, &home.path().join(".docker"));
    let at_home = with("0", Path::new(""))
        .env("DOCKER_CONFIG", "")
        .env("HOME", home.path());
    assert_eq!(keys_of(&at_home).map(|keys| keys.lines().count()), Ok(4));

    let reach = format!("cannot reach Docker at `{host}`: ");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let fails = |message: &str| {
        let said = keys_of(&with("1", directory.path())).expect_err("it cannot work");
        assert!(said.starts_with(&format!("error: {message}")), "{said}");
    };
    fails(&format!(
        "cannot use Docker at `{host}`: cannot read `{}`: No such file or directory (os error 2); DOCKER_TLS_VERIFY is \
         set, so DOCKER_CERT_PATH must be the directory with ca.pem, cert.pem and key.pem\n",
        file("ca.pem")
    ));
    certificates.copy(&["ca.pem"], directory.path());
    let no_client = format!(
        "{reach}the daemon refuses the client certificate in `{}` with the key in `{}`: ",
        file("cert.pem"),
        file("key.pem")
    );
    fails(&no_client);
    certificates.copy(&["cert.pem"], directory.path());
    fails(&format!(
        "cannot use Docker at `{host}`: cannot read `{}`: No such file",
        file("key.pem")
    ));
    let others = Certificates::new();
    others.copy(&["cert.pem", "key.pem"], directory.path());
    fails(&no_client);
    let plain = with("", directory.path());
    assert_eq!(
        keys_of(&plain),
        Err(format!(
            "error: {reach}the daemon expects TLS; set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory with \
             its ca.pem and your cert.pem and key.pem\n"
        ))
    );

    // The wrong CA: logged once, retried, and connected as soon as it is corrected.
    certificates.copy(&all, directory.path());
    others.copy(&["ca.pem"], directory.path());
    let message = format!(
        "{reach}the daemon's certificate is not signed by the CA in `{}`",
        file("ca.pem")
    );
    let registrar = with("1", directory.path())
        .flag("--log-level", "debug")
        .start();
    eventually(SOON, "several attempts", || {
        count(&registrar.log(), &message) >= 3
    });
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
    certificates.copy(&["ca.pem"], directory.path());
    bed.wait_for_keys(&keys, SOON);
    daemon.docker(&["stop", &id]);
    bed.wait_for_keys(&map::<&str, &str>([]), SOON);
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
}

#[test]
fn a_docker_host_that_no_daemon_can_have_ends_it() {
    let bed = TestBed::new();
    let forms = "it must be unix:///PATH, tcp://HOST:PORT or http://HOST:PORT";
    let ssh = "forward the socket with `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`, and set it to \
               unix:///tmp/docker.sock";
    for (host, advice) in [
        ("npipe:////./pipe/docker_engine", forms),
        ("tcp://127.0.0.1:docker", forms),
        ("ssh://root@127.0.0.1", ssh),
    ] {
        for command in ["keys", "run"] {
            let output = bed.registrar().env("DOCKER_HOST", host).run(command);
            assert_eq!(
                output.stderr,
                format!("error: cannot use DOCKER_HOST=`{host}`: {advice}\n")
            );
            assert_eq!(output.status.code(), Some(1));
        }
    }
}

/// Docker and Podman without root listen on sockets of their users. None of them can be run here, so a way to the
/// tests' Docker stands at such a place.
#[test]
fn without_access_to_the_default_socket_another_one_is_suggested() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let socket = Proxy::docker(&the_docker());
    let host = socket.address();
    let path = host.strip_prefix("unix://").expect("a socket");
    let directory = Path::new(path).parent().expect("a directory");
    let open = |path: &Path| {
        fs::set_permissions(path, Permissions::from_mode(0o777)).expect("it is the test's own");
    };
    open(directory);
    open(Path::new(path));
    // Other users cannot read the build directory.
    let program = directory.join("docker-register");
    fs::copy(env!("CARGO_BIN_EXE_docker-register"), &program).expect("a program can be copied");
    let keys = |before: &[&str], env: &[&str]| {
        let output = as_root(before[0])
            .args(&before[1..])
            .args(["env", "--ignore-environment"])
            .args(env)
            .arg(&program)
            .args(["keys", "--host-ip", HOST_IP, "--filter", &bed.filter()])
            .output()
            .expect("a program can be run");
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        if output.status.success() {
            Ok(stdout.lines().count())
        } else {
            Err(stderr)
        }
    };
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let runtime = format!("XDG_RUNTIME_DIR={}", directory.display());
    let there = format!("DOCKER_HOST={host}");
    let usual = "unix:///var/run/docker.sock";

    let denied = format!(
        "error: cannot reach Docker at `{usual}`: permission denied; run as root or as a member of the group `docker`"
    );
    if the_docker() == usual {
        assert_eq!(keys(&nobody, &[]), Err(format!("{denied}\n")));
        assert_eq!(
            keys(&nobody, &[&runtime]),
            Err(format!("{denied}; another socket exists: {there}\n"))
        );
    }
    assert_eq!(keys(&nobody, &[&there]), Ok(4));

    // The same as root on a machine without the usual socket.
    let script = "mount -t tmpfs none /var/run && exec \"$@\"";
    let without = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let missing = format!("error: cannot use Docker at `{usual}`: there is no such socket; ");
    let advice = "is the daemon running, and is DOCKER_HOST right?";
    assert_eq!(keys(&without, &[]), Err(format!("{missing}{advice}\n")));
    assert_eq!(
        keys(&without, &[&runtime]),
        Err(format!("{missing}another socket exists: {there}\n"))
    );

    // A container with a mounted socket that the host does not have.
    let directory_host = format!("DOCKER_HOST=unix://{}", directory.display());
    let said = keys(&nobody, &[&directory_host]).expect_err("a directory is no socket");
    assert!(
        said.contains(
            "it is a directory, which Docker creates if the mounted path does not exist on the host; mount the host's \
             Docker socket"
        ),
        "{said}"
    );
}

#[test]
fn a_socket_proxy_has_to_let_through_what_the_readme_names_and_no_more() {
    let bed = TestBed::new();
    let recorder = Recorder::start(&the_socket(), &ENDPOINTS);
    let script = Script::new("return require 'register'");
    let command = bed
        .registrar()
        .env("DOCKER_HOST", recorder.host())
        .flag("--script", script.path())
        .env("DOCKER_REGISTER_RESYNC", "1")
        .flag("--ttl", "3");
    let registrar = in_step(&command.clone().flag("--log-level", "debug"));
    let event =
        |name: &str, id: &str| registrar.wait_for_log(&format!("event {name} of {id}"), SOON);

    let health = ["--health-cmd=test -e /tmp/well", "--health-interval=100ms"];
    let web = health
        .into_iter()
        .fold(bed.container().publish_all(), common::ContainerBuilder::arg)
        .start();
    event("start", web.id());
    web.exec(&["touch", "/tmp/well"]);
    event("health_status: healthy", web.id());
    let keys = web_keys("web", &web, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    web.rename(&format!("{}-renamed", web.name()));
    event("rename", web.id());
    let network = bed.network();
    docker(&["network", "connect", &network, web.id()]);
    event("connect", web.id());
    let guest = bed
        .container()
        .network(&format!("container:{}", web.id()))
        .env("SERVICE_NAME", "guest")
        .start();
    // Its image exposes the ports that are published, so they are its own.
    eventually(SOON, "the keys of the guest", || {
        let keys = bed.keys();
        keys.len() == 4 && keys.contains_key("guest/1/port")
    });
    guest.rm();
    bed.wait_for_keys(&keys, SOON);
    fs::write(script.path(), "-- anew\nreturn require 'register'")
        .expect("the script is the test's own");
    registrar.signal("HUP");
    registrar.wait_for_log("loaded again", SOON);

    assert_eq!(keys_of(&command).map(|keys| keys.lines().count()), Ok(4));
    assert_no_difference(&command);
    let dry_run = command.clone().arg("--dry-run").start();
    dry_run.wait_for_stdout("web/2/port", SOON);
    web.stop();
    bed.wait_for_keys(&map::<&str, &str>([]), SOON);
    eventually(SOON, "a sign of life to be asked for", || {
        recorder.requests().contains("GET /_ping")
    });
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
    assert_eq!(
        recorder.requests(),
        BTreeSet::from(ENDPOINTS.map(str::to_owned))
    );
}

/// A list entry agrees with its inspect object, so unchanged containers are not inspected again.
#[test]
fn containers_that_have_not_changed_are_listed_and_not_inspected_again() {
    let bed = TestBed::new();
    let network = bed.network();
    let well = bed.container().publish_all();
    let well = well.arg("--health-cmd=true").arg("--health-interval=100ms");
    let well = well.start();
    well.wait_for_health("healthy");
    let owner = bed.container().network(&network).publish("8005/udp");
    let owner = owner.publish("127.0.0.1::8006").start();
    let mut all = vec![well];
    for network in [&format!("container:{}", owner.id()), "host", "none"] {
        all.push(bed.container_of(BARE).network(network).start());
    }
    all.push(owner);

    let recorder = Recorder::start(&the_socket(), &ENDPOINTS);
    let command = bed.registrar().env("DOCKER_HOST", recorder.host());
    let _registrar = in_step(&command.flag("--resync", "1"));
    let lists = || recorder.count("GET /containers/json");
    eventually(SOON, "a second list", || lists() >= 2);
    // Other tests' containers are inspected as well.
    let inspections = || {
        let of = |container: &Container| {
            recorder.count(&format!("GET /containers/{}/json", container.id()))
        };
        all.iter().map(of).collect::<Vec<usize>>()
    };
    let first = inspections();
    assert!(first.iter().all(|count| *count >= 1), "{first:?}");
    eventually(SOON, "an eighth list", || lists() >= 8);
    assert_eq!(inspections(), first);
}

#[test]
fn the_readme_names_what_a_socket_proxy_has_to_let_through() {
    let readme = include_str!("../../README.md");
    for endpoint in ENDPOINTS {
        assert!(
            readme.contains(&format!("`{endpoint}`")),
            "the README does not name `{endpoint}`"
        );
    }
}

#[test]
fn podman_is_followed_as_docker_is() {
    let bed = TestBed::new();
    let podman = Podman::start(WEB);
    let command = bed
        .registrar()
        .env("DOCKER_HOST", podman.host())
        .env("DOCKER_REGISTER_RESYNC", "3600");
    let registrar = in_step(&command);
    let label = &bed.filter()["label=".len()..];
    let run = |arguments: &[&str]| {
        let start = ["run", "--detach", "--label", label];
        podman.docker(&[&start[..], arguments, &[WEB]].concat())
    };
    let port = |id: &str, port: &str| {
        let bound = podman.docker(&["port", id, port]);
        let (_, number) = bound
            .lines()
            .next()
            .and_then(|line| line.rsplit_once(':'))
            .expect("a port");
        number.to_owned()
    };
    let keys_of_web = |id: &str| {
        let member = |index: &str, exposed: &str| {
            (
                format!("web/{index}/{}", &id[..12]),
                format!("{HOST_IP}:{}", port(id, &format!("{exposed}/tcp"))),
            )
        };
        map([
            member("1", "8005"),
            member("2", "8006"),
            ("web/1/port".to_owned(), "8005".to_owned()),
            ("web/2/port".to_owned(), "8006".to_owned()),
        ])
    };
    let nothing = map::<&str, &str>([]);

    let web = run(&["--publish-all"]);
    let keys = keys_of_web(&web);
    bed.wait_for_keys(&keys, SOON);
    podman.docker(&["pause", &web]);
    bed.wait_for_keys(&nothing, SOON);
    podman.docker(&["unpause", &web]);
    bed.wait_for_keys(&keys, SOON);
    podman.docker(&["stop", &web]);
    bed.wait_for_keys(&nothing, SOON);
    podman.docker(&["start", &web]);
    bed.wait_for_keys(&keys_of_web(&web), SOON);
    // One that ends by itself, one that is removed at once, and one in another's network.
    podman.docker(&["kill", &web]);
    bed.wait_for_keys(&nothing, SOON);
    podman.docker(&["start", &web]);
    let keys = keys_of_web(&web);
    bed.wait_for_keys(&keys, SOON);
    // In a pod, the infra container publishes the ports. Podman cannot build its own image for it here.
    podman.docker(&["tag", WEB, "localhost/podman-pause:test"]);
    let create =
        "pod create --infra-image localhost/podman-pause:test --publish 8005 --publish 8006 --name";
    let mut create: Vec<&str> = create.split(' ').collect();
    create.extend([&bed.name, "--label", label]);
    podman.podman(&create);
    let member = ["run", "--detach", "--label", label, "--pod", &bed.name];
    let member = podman.podman(&[&member[..], &["--env", "SERVICE_NAME=member", WEB]].concat());
    eventually(SOON, "the keys of the pod's member alone", || {
        let found = bed.keys();
        let members = found.keys().filter(|key| key.ends_with(&member[..12]));
        members.count() == 2 && found.contains_key("member/2/port") && found.len() == 8
    });
    podman.podman(&["pod", "rm", "--force", &bed.name]);
    bed.wait_for_keys(&keys, SOON);

    // Its keys are recognised after a restart, although Podman's id is different each time.
    registrar.kill9();
    let owned = || {
        let key = bed
            .etcd
            .kv(&bed.key(&format!("web/1/{}", &web[..12])))
            .expect("a key");
        (key.lease, key.mod_revision)
    };
    let before = owned();
    let registrar = in_step(&command);
    assert_eq!((bed.keys(), owned()), (keys, before));
    assert_no_difference(&command);
    podman.docker(&["rm", "--force", &web]);
    bed.wait_for_keys(&nothing, SOON);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}
