//! An etcd with TLS, client certificates, and users with passwords or certificates.

use crate::common;
use crate::etcd_access::{etcdctl, with_reader};

use common::{
    Etcd, FEW, HOST_IP, Mode, Proxy, Registrar, RegistrarBuilder, SOON, Script, TestBed, count,
    in_step, joined, warnings, web_keys,
};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Certificates: `ca` has signed `server`, and `client` for the user `registrar`; `expired-server` and `expired-client`
/// are a day too old, `named` is for the name `etcd.test` alone. `another` has the same name as `ca`, and no other
/// authority has signed `strange`.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let files = Files { directory };
        let here = "subjectAltName=IP:127.0.0.1,DNS:etcd.test";
        let client = "extendedKeyUsage=clientAuth";
        let (past, future) = ("20200102000000Z", "20991231235959Z");
        for (name, subject) in [("ca", "ca"), ("another", "ca"), ("stranger", "stranger")] {
            files.make_request(name, subject);
            let authority = "basicConstraints=critical,CA:true";
            files.sign(name, name, authority, future);
        }
        for (name, subject, by, extension, end) in [
            ("server", "etcd", "ca", here, future),
            ("expired-server", "etcd", "ca", here, past),
            (
                "named",
                "etcd",
                "ca",
                "subjectAltName=DNS:etcd.test",
                future,
            ),
            ("client", "registrar", "ca", client, future),
            ("expired-client", "registrar", "ca", client, past),
            ("strange", "registrar", "stranger", client, future),
        ] {
            files.make_request(name, subject);
            files.sign(name, by, extension, end);
        }
        files
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn copy(&self, from: &str, to: &str) {
        for ending in ["pem", "key"] {
            let path = |name| self.path(&format!("{name}.{ending}"));
            fs::copy(path(from), path(to)).expect("a file can be copied");
        }
    }

    /// Makes a key and a request.
    fn make_request(&self, name: &str, subject: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={subject}"
        ));
    }

    /// Signs a request. `openssl ca` alone can make a certificate that has expired.
    fn sign(&self, name: &str, by: &str, extension: &str, end: &str) {
        let config = format!(
            "[ca]\ndefault_ca=it\n[it]\ndatabase=index\nunique_subject=no\nrand_serial=yes\nnew_certs_dir=.\n\
             default_md=sha256\npolicy=any\nx509_extensions=ext\n[any]\ncommonName=supplied\n[ext]\n{extension}\n"
        );
        fs::write(self.path("config"), config).expect("a file can be written");
        fs::write(self.path("index"), "").expect("a file can be written");
        let signer = if name == by {
            format!("-selfsign -keyfile {by}.key")
        } else {
            format!("-cert {by}.pem -keyfile {by}.key")
        };
        self.openssl(&format!(
            "ca -batch -notext -config config -in {name}.csr -out {name}.pem -startdate 20200101000000Z -enddate {end} {signer}"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .current_dir(&self.directory)
            .args(arguments.split(' '))
            .output()
            .expect("`openssl` can be run: `make test` installs it");
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    }
}

/// A test bed whose etcd speaks TLS.
struct Secure {
    bed: TestBed,
    files: Files,
}

impl Secure {
    /// Its etcd has the certificate `server`.
    fn new() -> Self {
        Self::with("server", &[])
    }

    /// Its etcd requires client certificates.
    fn mutual(flags: &[&str]) -> Self {
        let flags: Vec<&str> = flags
            .iter()
            .copied()
            .chain(["--client-cert-auth"])
            .collect();
        Self::with("server", &flags)
    }

    /// Its etcd has the certificate in `used.pem` and `used.key`, which it reads anew for each connection.
    fn with(certificate: &str, flags: &[&str]) -> Self {
        let files = Files::new();
        files.copy(certificate, "used");
        let (cert, key, ca) = (
            files.path("used.pem"),
            files.path("used.key"),
            files.path("ca.pem"),
        );
        let mut all = vec![
            "--cert-file",
            &cert,
            "--key-file",
            &key,
            "--bcrypt-cost",
            "4",
        ];
        if flags.contains(&"--client-cert-auth") {
            all.extend(["--trusted-ca-file", &ca]);
        }
        all.extend(flags);
        let mut bed = TestBed::new();
        bed.etcd = Etcd::start_with_tls(&all);
        Secure { bed, files }
    }

    /// Writes a file beside the certificates, and returns its path.
    fn directory_file(&self, name: &str, text: &str) -> String {
        fs::write(self.files.path(name), text).expect("a file can be written");
        self.files.path(name)
    }

    /// The program with TLS, trusting `ca`.
    fn registrar(&self) -> RegistrarBuilder {
        self.bed
            .registrar()
            .flag(
                "--etcd",
                format!("https://{}", self.bed.etcd.tls_endpoint()),
            )
            .flag("--etcd-cacert", self.files.path("ca.pem"))
    }

    /// The same, with a client certificate.
    fn registrar_with(&self, certificate: &str) -> RegistrarBuilder {
        self.registrar()
            .flag(
                "--etcd-cert",
                self.files.path(&format!("{certificate}.pem")),
            )
            .flag("--etcd-key", self.files.path(&format!("{certificate}.key")))
    }

    /// The same without a certificate, as the user `registrar`.
    fn registrar_as_user(&self) -> RegistrarBuilder {
        self.registrar().flag("--etcd-user", "registrar")
    }

    /// Lets the user `registrar` write below the prefix.
    fn with_writer(&self) {
        with_reader(&self.bed);
        self.with_writing();
    }

    /// Gives the read-only user `registrar` the right to write.
    fn with_writing(&self) {
        let prefix = &self.bed.prefix;
        etcdctl(
            &self.bed,
            &format!("role grant-permission site readwrite {prefix} --prefix=true"),
        );
    }

    /// Changes the password of the user `registrar`.
    fn set_password(&self, password: &str) {
        let mut etcdctl = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                &self.bed.etcd.endpoint(),
                "--user",
                "root:root",
            ])
            .args(["user", "passwd", "registrar", "--interactive=false"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("`etcdctl` can be run: `make test` installs it");
        let mut stdin = etcdctl.stdin.take().expect("stdin is a pipe");
        writeln!(stdin, "{password}").expect("etcdctl reads the password");
        drop(stdin);
        assert!(etcdctl.wait().expect("etcdctl ends").success());
    }

    /// Checks that `registrar` fails with a message, logs it once while it retries, and works as soon as `mend` has
    /// been called.
    #[track_caller]
    fn assert_mendable(&self, registrar: &RegistrarBuilder, message: &str, mend: impl FnOnce()) {
        let web = self
            .bed
            .container()
            .env("SERVICE_NAME", "web")
            .publish_all();
        let web = web.start();
        let registrar = registrar.clone().flag("--log-level", "debug").start();
        registrar.wait_for_log(&format!("WARN {message}; retrying, "), SOON);
        let again = || count(&registrar.log(), &format!("DEBUG {message}\n"));
        common::eventually(SOON, "four more tries", || again() >= 4);
        assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
        mend();
        registrar.wait_for_log("in step", SOON);
        assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
        assert!(registrar.log().contains("etcd is back after"));
        assert_eq!(registrar.terminate().code(), Some(0));
        // etcd may need a user, and then the test cannot read its keys.
        let key = format!("web/1/{}", web.short_id());
        assert!(registrar.log().contains(&key), "{}", registrar.log());
    }

    /// The error of `diff`, with the endpoint as `ETCD`.
    fn failure(&self, registrar: &RegistrarBuilder) -> String {
        let output = registrar.run("diff");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        output.stderr.replace(&self.bed.etcd.tls_endpoint(), "ETCD")
    }

    /// The same, for an endpoint with an untrusted certificate.
    fn whose(&self) -> String {
        format!(
            "the certificate of etcd at `{}`",
            self.bed.etcd.tls_endpoint()
        )
    }
}

#[test]
fn the_certificate_of_a_name_with_several_addresses_is_checked_against_the_name() {
    let secure = Secure::with("named", &[]);
    let endpoint = secure.bed.etcd.tls_endpoint();
    let (_, port) = endpoint.rsplit_once(':').expect("a port");
    let hosts = secure.directory_file("hosts", "127.0.0.9 etcd.test\n127.0.0.1 etcd.test\n");
    let registrar = secure.registrar().hosts(hosts.as_ref());
    let by_name = registrar
        .clone()
        .flag("--etcd", format!("etcd.test:{port}"));
    let diff = by_name.run("diff");
    assert_eq!(
        (diff.status.code(), &*diff.stdout),
        (Some(0), ""),
        "{diff:?}"
    );
    let by_address = registrar.run("diff");
    assert_eq!(by_address.status.code(), Some(1));
    assert!(
        by_address.stderr.contains("is for `etcd.test` and not for"),
        "{by_address:?}"
    );
}

#[test]
fn all_commands_speak_tls_with_an_authority_from_a_file_or_the_systems() {
    let secure = Secure::new();
    let bed = &secure.bed;
    let web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .start();
    let wanted = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&secure.registrar().flag("--ttl", "3"));
    assert_eq!(bed.keys(), wanted);
    let revision = bed.etcd.revision();
    bed.etcd.let_pass(6);
    assert_eq!((bed.keys(), bed.etcd.revision()), (wanted, revision));
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());

    let diff = secure.registrar().flag("--ttl", "3").run("diff");
    assert_eq!(
        (diff.status.code(), &*diff.stdout),
        (Some(0), ""),
        "{diff:?}"
    );
    bed.etcd.put(&bed.key("where"), "/found");
    let policy = Script::new(&format!(
        "local register, etcd = require 'register', require 'etcd'\n\
         local run = register.run\n\
         function register.run() register.prefix = etcd.get('{}'); run() end\n\
         return register\n",
        bed.key("where")
    ));
    let keys = secure
        .registrar()
        .flag("--script", policy.path())
        .run("keys");
    assert!(keys.stdout.starts_with("/found/web/1/"), "{keys:?}");

    // The environment sets the CAs that "the system" trusts.
    let none = tempfile::tempdir().expect("a temporary directory can be made");
    let of_system = |file: String| {
        let registrar = secure.registrar().without("--etcd-cacert");
        registrar
            .flag("--ttl", "3")
            .env("SSL_CERT_FILE", file)
            .env("SSL_CERT_DIR", none.path())
    };
    bed.etcd.delete(&bed.key("where"));
    let diff = of_system(secure.files.path("ca.pem")).run("diff");
    assert_eq!(diff.status.code(), Some(0), "{diff:?}");
    assert_eq!(
        secure.failure(&of_system(secure.files.path("stranger.pem"))),
        "error: the certificate of etcd at `ETCD` is not signed by a CA that this system trusts: pass \
         --etcd-cacert FILE\n"
    );
    assert_eq!(
        secure.failure(&of_system("/dev/null".to_owned())),
        "error: this system has no list of CAs to verify etcd at `ETCD` with (no native certs found): pass \
         --etcd-cacert FILE\n"
    );
}

#[test]
fn an_authority_that_is_not_etcds_can_be_put_right() {
    let secure = Secure::new();
    secure.files.copy("another", "believed");
    let believed = secure.files.path("believed.pem");
    let registrar = secure.registrar().flag("--etcd-cacert", &believed);
    let message = format!(
        "{} is not signed by a CA in `{believed}`: put the CA that signed it there",
        secure.whose()
    );
    // `another` has the name of the right one, and another key; this one has not.
    let stranger = secure
        .registrar()
        .flag("--etcd-cacert", secure.files.path("stranger.pem"));
    let failure = secure.failure(&stranger);
    assert!(failure.contains("is not signed by a CA in"), "{failure}");
    secure.assert_mendable(&registrar, &message, || secure.files.copy("ca", "believed"));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let secure = Secure::mutual(&[]);
    let path = |name: &str| secure.files.path(name);
    let write =
        |name: &str, text: &str| fs::write(path(name), text).expect("a file can be written");
    write("empty", "");
    let pem = fs::read_to_string(path("ca.pem")).expect("there is a certificate");
    write("half", &pem[..pem.len() / 2]);
    write(
        "garbled",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let good = secure.registrar_with("client");
    for (flag, file, message) in [
        (
            "--etcd-cacert",
            "none",
            "cannot read etcd's CA from `FILE`: No such file or directory (os error 2)",
        ),
        (
            "--etcd-cacert",
            "empty",
            "there is no certificate in PEM format in `FILE`",
        ),
        (
            "--etcd-cacert",
            "half",
            "cannot parse etcd's CA in `FILE`: ",
        ),
        (
            "--etcd-cacert",
            "garbled",
            "no certificate in `FILE` can be etcd's CA: the file is garbled",
        ),
        (
            "--etcd-cert",
            "none",
            "cannot read the certificate for etcd from `FILE`: No such file or directory (os error 2)",
        ),
        (
            "--etcd-cert",
            "empty",
            "there is no certificate in PEM format in `FILE`",
        ),
        (
            "--etcd-cert",
            "garbled",
            "the key in `KEY` does not match the certificate in `FILE`: ",
        ),
        (
            "--etcd-key",
            "none",
            "cannot read the key of the certificate for etcd from `FILE`: No such file or directory (os error 2)",
        ),
        (
            "--etcd-key",
            "ca.pem",
            "there is no private key in PEM format in `FILE`: ",
        ),
        (
            "--etcd-key",
            "ca.key",
            "the key in `FILE` does not match the certificate in `CERT`: ",
        ),
    ] {
        let failure = secure.failure(&good.clone().flag(flag, path(file)));
        let message = message
            .replace("FILE", &path(file))
            .replace("KEY", &path("client.key"));
        let message = message.replace("CERT", &path("client.pem"));
        assert!(
            failure.starts_with(&format!("error: {message}")),
            "{failure}{message}"
        );
        assert_eq!(count(&failure, "\n"), 1, "{failure}");
    }
    let half = path("half");
    let message = format!("cannot parse etcd's CA in `{half}`: ");
    let registrar = good.flag("--etcd-cacert", &half).start();
    registrar.wait_for_log(&format!("WARN {message}"), SOON);
    write("half", &pem);
    registrar.wait_for_log("in step", SOON);
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
}

#[test]
fn an_etcd_whose_certificate_has_expired_is_used_again_when_it_has_a_new_one() {
    let secure = Secure::with("expired-server", &[]);
    let message = format!(
        "{} has expired: renew it, or correct this host's clock",
        secure.whose()
    );
    secure.assert_mendable(&secure.registrar(), &message, || {
        secure.files.copy("server", "used");
    });
}

#[test]
fn an_etcd_whose_certificate_has_another_name_is_reached_by_server_name() {
    let secure = Secure::with("named", &[]);
    let named = |name: &str| secure.registrar().flag("--etcd-server-name", name);
    let message = |name: &str| {
        format!(
            "error: the certificate of etcd at `ETCD` is for `etcd.test` and not for `{name}`: pass --etcd-server-name \
             NAME with one of its names\n"
        )
    };
    assert_eq!(secure.failure(&secure.registrar()), message("127.0.0.1"));
    assert_eq!(secure.failure(&named("other.test")), message("other.test"));
    let web = secure
        .bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .start();
    let _registrar = in_step(&named("etcd.test"));
    assert_eq!(secure.bed.keys(), web_keys("web", &web, HOST_IP));
}

#[test]
fn a_certificate_that_etcd_refuses_can_be_put_right() {
    let secure = Secure::mutual(&[]);
    let without = secure.failure(&secure.registrar());
    assert_eq!(
        without,
        "error: cannot reach etcd at `ETCD`: it closes the connection; if it requires a certificate, pass \
         --etcd-cert FILE and --etcd-key FILE\n"
    );
    let message = format!(
        "cannot reach etcd at `{}`: it closes the connection; the certificate in `{}` must not have expired, and a CA \
         in etcd's --trusted-ca-file must have signed it (etcd's log tells the cause)",
        secure.bed.etcd.tls_endpoint(),
        secure.files.path("mine.pem")
    );
    for wrong in ["strange", "expired-client"] {
        secure.files.copy(wrong, "mine");
        secure.assert_mendable(&secure.registrar_with("mine"), &message, || {
            secure.files.copy("client", "mine");
        });
    }
}

#[test]
fn tls_on_one_side_only_is_explained() {
    let secure = Secure::new();
    let etcd = &secure.bed.etcd;
    let plain = secure.bed.registrar().flag("--etcd", etcd.tls_endpoint());
    let message = format!(
        "cannot reach etcd at `{}`: it closes the connection; if it speaks TLS, write https:// before it",
        etcd.tls_endpoint()
    );
    let registrar = plain.start();
    registrar.wait_for_log(&format!("WARN {message}; retrying, "), SOON);
    let tls = secure
        .registrar()
        .flag("--etcd", format!("https://{}", etcd.endpoint()));
    let message = format!(
        "error: cannot reach etcd at `{}`: it closes the connection; if it does not speak TLS, write http:// before it \
         and leave out --etcd-cacert and the like\n",
        etcd.endpoint()
    );
    assert_eq!(secure.failure(&tls), message);
}

#[test]
fn contradicting_flags_are_wrong_usage() {
    let refused = |flags: &[(&str, &str)], message: &str| {
        let registrar = flags
            .iter()
            .fold(Registrar::command(), |command, (name, value)| {
                command.flag(name, *value)
            });
        let output = registrar.run("run");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stderr.contains(message), "{}", output.stderr);
    };
    refused(&[("--etcd-cert", "a")], "--etcd-key <FILE>");
    refused(&[("--etcd-key", "a")], "--etcd-cert <FILE>");
    refused(
        &[("--etcd", "http://a,https://b")],
        "error: etcd's endpoints must all use TLS, or none of them: `a:2379` begins with http:// and `b:2379` with https://\n",
    );
    for flag in ["--etcd-cacert", "--etcd-server-name"] {
        refused(
            &[("--etcd", "b,http://a"), (flag, "x")],
            &format!(
                "error: {flag} turns on TLS, but etcd's endpoint `a:2379` begins with http://: write https://\n"
            ),
        );
    }
    refused(
        &[("--etcd-server-name", "etcd:2379")],
        "expected a host's name or address, without a port",
    );
}

#[test]
fn a_user_of_one_prefix_is_served_over_tls_and_a_wrong_password_can_be_put_right() {
    let secure = Secure::new();
    secure.with_writer();
    let password = Script::new("guess\n");
    let registrar = secure
        .registrar_as_user()
        .flag("--etcd-password-file", password.path());
    let message = format!(
        "etcd at `{}` answered: authentication failed, invalid user ID or password: put the right one into `{}`",
        secure.bed.etcd.tls_endpoint(),
        password.path().display()
    );
    let put_right = |text: &str| fs::write(password.path(), text).expect("a file can be written");
    secure.assert_mendable(&registrar, &message, || put_right("secret\n"));

    // The password of a running registrar may change too.
    let registrar = in_step(&registrar);
    secure.set_password("changed");
    let web = secure
        .bed
        .container()
        .env("SERVICE_NAME", "late")
        .publish_all()
        .start();
    registrar.wait_for_log(&format!("{message}; retrying, "), SOON);
    put_right("changed");
    registrar.wait_for_log(&format!("late/1/{}", web.short_id()), SOON);
    let warnings = warnings(&registrar);
    assert!((1..=FEW).contains(&warnings), "{}", registrar.log());
}

#[test]
fn a_certificate_names_the_user_without_a_password() {
    let secure = Secure::mutual(&[]);
    with_reader(&secure.bed);
    etcdctl(&secure.bed, "user revoke-role registrar site");
    let failure = secure.failure(&secure.registrar_with("client"));
    let prefix = &secure.bed.prefix;
    let named = format!(
        "error: cannot read the keys that begin with `{prefix}/`: etcd at `ETCD` answered: "
    );
    assert!(failure.starts_with(&named), "{failure}");
    assert!(
        failure.contains("permission denied: give the user that our certificate `")
            && failure.ends_with(
                "` names (CN) the role to read and write the keys (`etcdctl role grant-permission`)\n"
            ),
        "{failure}"
    );
    etcdctl(&secure.bed, "user grant-role registrar site");
    secure.with_writing();
    let web = secure
        .bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .start();
    let registrar = in_step(&secure.registrar_with("client"));
    let diff = secure.registrar_with("client").run("diff");
    assert_eq!(diff.status.code(), Some(0), "{diff:?}");
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
    etcdctl(&secure.bed, "auth disable");
    assert_eq!(secure.bed.keys(), web_keys("web", &web, HOST_IP));
}

/// Runs a registrar for several lifetimes of the tokens.
fn assert_outlives_tokens(secure: &Secure) {
    secure.with_writer();
    let web = |service: &str| {
        let web = secure.bed.container().env("SERVICE_NAME", service);
        web.publish_all().start()
    };
    let one = web("one");
    let registrar = in_step(
        &secure
            .registrar_as_user()
            .flag("--ttl", "6")
            .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret"),
    );
    common::let_time_pass(Duration::from_secs(6));
    let (two, goes) = (web("two"), web("goes"));
    registrar.wait_for_log(&format!("goes/1/{}", goes.short_id()), SOON);
    common::let_time_pass(Duration::from_secs(3));
    goes.rm();
    common::let_time_pass(Duration::from_secs(4));
    let log = registrar.log();
    assert_eq!(count(&log, "WARN ") + count(&log, "ERROR "), 0, "{log}");
    etcdctl(&secure.bed, "auth disable");
    let keys = [("one", &one), ("two", &two)].map(|(name, web)| web_keys(name, web, HOST_IP));
    assert_eq!(secure.bed.keys(), joined([&keys[0], &keys[1]]));
    for key in secure.bed.keys().keys() {
        let history = secure.bed.etcd.history(&secure.bed.key(key));
        assert_eq!(history.len(), 1, "{key} was lost and put again");
    }
}

#[test]
fn a_registrar_outlives_its_simple_tokens() {
    assert_outlives_tokens(&Secure::with("server", &["--auth-token-ttl", "1"]));
}

#[test]
fn a_registrar_outlives_its_signed_tokens() {
    let keys = Files::new();
    keys.openssl("genrsa -out token.key 2048");
    keys.openssl("rsa -in token.key -pubout -out token.pub");
    // etcd cuts the end of a token to whole seconds: one of 1 s may be over in an instant.
    let token = format!(
        "jwt,pub-key={},priv-key={},sign-method=RS256,ttl=2s",
        keys.path("token.pub"),
        keys.path("token.key")
    );
    assert_outlives_tokens(&Secure::with("server", &["--auth-token", &token]));
}

#[test]
fn the_password_is_told_to_nobody() {
    const PASSWORD: &str = "tell-it-to-nobody";
    let secure = Secure::new();
    secure.with_writer();
    let file = Script::new(PASSWORD);
    let in_file = secure
        .registrar_as_user()
        .flag("--etcd-password-file", file.path());
    let in_environment = secure
        .registrar_as_user()
        .env("DOCKER_REGISTER_ETCD_PASSWORD", PASSWORD);
    for registrar in [in_file, in_environment] {
        for help in ["--help", "-h", "--no-such-flag"] {
            let output = registrar.clone().arg(help).run("run");
            assert!(!format!("{output:?}").contains(PASSWORD), "{output:?}");
        }
        let registrar = registrar.flag("--log-level", "debug");
        // It is the wrong one at first.
        secure.set_password("secret");
        let registrar = registrar.start();
        registrar.wait_for_log("authentication failed", SOON);
        secure.set_password(PASSWORD);
        registrar.wait_for_log("in step", SOON);
        let arguments = fs::read(format!("/proc/{}/cmdline", registrar.pid()));
        let arguments = String::from_utf8_lossy(&arguments.expect("it runs")).into_owned();
        assert!(arguments.contains("--etcd-user"), "{arguments}");
        registrar.terminate();
        for text in [arguments, registrar.log(), registrar.stdout()] {
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
}

#[test]
fn another_endpoint_takes_over_with_tls() {
    let secure = Secure::mutual(&[]);
    let proxies = [(); 2].map(|()| Proxy::tcp(&secure.bed.etcd.tls_endpoint()));
    let endpoints = proxies
        .each_ref()
        .map(|proxy| format!("https://{}", proxy.address()));
    let web = |service: &str| {
        let web = secure.bed.container().env("SERVICE_NAME", service);
        web.publish_all().start()
    };
    let one = web("one");
    let registrar = in_step(
        &secure
            .registrar_with("client")
            .flag("--etcd", endpoints.join(",")),
    );
    assert_eq!(proxies[1].accepted(), 0);
    proxies[0].set(Mode::Cut);
    let two = web("two");
    let keys = [("one", &one), ("two", &two)].map(|(name, web)| web_keys(name, web, HOST_IP));
    secure
        .bed
        .wait_for_keys(&joined([&keys[0], &keys[1]]), SOON);
    assert!(warnings(&registrar) <= 1, "{}", registrar.log());
}
