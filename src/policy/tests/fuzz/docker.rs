//! Random replies of Docker about containers: possible ones, and impossible ones.

use std::fmt::Write as _;

use super::rng::Rng;
use super::*;

/// Saved real containers.
const FLEET: &str = include_str!("../../../../examples/fleet.json");

/// Texts to put where a text is expected.
const TEXTS: [&str; 34] = [
    "",
    "web",
    "port",
    "1",
    "true",
    "false",
    "80/tcp",
    "53/udp",
    "8000-8003/tcp",
    "65535/sctp",
    "0/tcp",
    "9-1",
    "65536",
    ".",
    "..",
    "../../x",
    "/",
    "a/b",
    "/a",
    "a:b@c",
    "@sha256:00",
    "sha256:00",
    "\u{0}",
    "a\nb",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "\u{202e}x",
    "é",
    "größe",
    "\u{10ffff}",
    "127.0.0.1",
    "::",
    "container:",
];
/// JSON scalars to put anywhere.
const SCALARS: [&str; 16] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "-0.0",
    "1e308",
    "0.5",
    "9223372036854775807",
    "18446744073709551616",
    "-9223372036854775809",
    "65536",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[null]",
];
/// The names of what is read, so that a change often matters.
const NAMES: [&str; 14] = [
    "Id",
    "Name",
    "Created",
    "Image",
    "Config",
    "Env",
    "Labels",
    "ExposedPorts",
    "NetworkSettings",
    "Ports",
    "HostIp",
    "HostPort",
    "SERVICE_NAME",
    "SERVICE_80_NAME",
];

/// Writes what Docker might say of containers, and what it never would.
pub struct Docker {
    rng: Rng,
    templates: Vec<Json>,
    /// One value in so many is changed; none at 0.
    rate: usize,
    text: String,
}

impl Docker {
    pub fn new(seed: u64) -> Self {
        let mut templates: Vec<Json> = serde_json::from_str(FLEET).expect("the fleet");
        // Fields that the program does not read would only make the cases slow.
        for template in &mut templates {
            let object = template.as_object_mut().expect("an object");
            object.retain(|name, _| {
                [
                    "Id",
                    "Created",
                    "State",
                    "Image",
                    "Name",
                    "HostConfig",
                    "Config",
                    "NetworkSettings",
                ]
                .contains(&name.as_str())
            });
            object["HostConfig"] = json!({ "NetworkMode": object["HostConfig"]["NetworkMode"] });
        }
        Self {
            rng: Rng(seed),
            templates,
            rate: 0,
            text: String::new(),
        }
    }

    /// One container, as JSON for the most part.
    pub fn container(&mut self) -> &str {
        self.text.clear();
        self.rate = [0, 0, 300, 100, 30, 8][self.rng.below(6)];
        if self.rng.one_in(3) {
            let template = self.rng.below(self.templates.len());
            let template = std::mem::take(&mut self.templates[template]);
            self.write(&template);
            let place = self
                .templates
                .iter_mut()
                .find(|template| template.is_null());
            *place.expect("its place") = template;
        } else {
            let made = self.made();
            self.write(&made);
        }
        if self.rng.one_in(20) {
            let mut cut = self.rng.below(self.text.len());
            while !self.text.is_char_boundary(cut) {
                cut -= 1;
            }
            if self.rng.one_in(2) {
                self.text.truncate(cut);
            } else {
                self.text.insert_str(cut, self.rng.pick(&SCALARS));
            }
        }
        &self.text
    }

    /// A container whose names, ports and addresses are chosen from what may matter.
    fn made(&mut self) -> Json {
        let rng = &mut self.rng;
        let id = format!("{:016x}", rng.below(usize::MAX)).repeat(4);
        let mut labels = serde_json::Map::new();
        let mut env = Vec::new();
        for _ in 0..rng.below(3) {
            let name = rng.pick(&[
                "SERVICE_NAME",
                "SERVICE_80_NAME",
                "SERVICE_53_NAME",
                "SERVICE_IGNORE",
                "SERVICE_80_IGNORE",
            ]);
            let value = if rng.one_in(2) {
                "shop"
            } else {
                rng.pick(&TEXTS)
            };
            if rng.one_in(2) {
                labels.insert(name.to_owned(), json!(value));
            } else {
                env.push(json!(format!("{name}={value}")));
            }
        }
        let (mut exposed, mut published) = (serde_json::Map::new(), serde_json::Map::new());
        for _ in 0..=rng.below(3) {
            let port = rng.pick(&[
                "80/tcp",
                "80",
                "443/TCP",
                "53/udp",
                "53/tcp",
                "8000-8003/tcp",
                "1/x",
                "/tcp",
                "-/",
            ]);
            let ip = rng.pick(&[
                "0.0.0.0",
                "0.0.0.0",
                "",
                "",
                "::",
                "10.1.2.3",
                "127.0.0.1",
                "fd00::1",
                "fe80::1%eth0",
                "host",
                "1.2.3.4\n/x",
            ]);
            let number = rng.pick(&[
                "32768", "1", "32770", "65535", "49153", "0", "65536", "-1", "+80", "", " 80",
            ]);
            exposed.insert(port.to_owned(), json!({}));
            let bindings = json!([{ "HostIp": ip, "HostPort": number }]);
            published.insert(
                port.to_owned(),
                if rng.one_in(5) { Json::Null } else { bindings },
            );
        }
        let mode = rng.pick(&[
            "bridge",
            "host",
            "none",
            "default",
            "container:",
            "container:x",
        ]);
        let status = rng.pick(&[
            "running", "running", "running", "running", "running", "paused", "exited", "",
        ]);
        let health = rng.pick(&[
            "healthy",
            "none",
            "",
            "",
            "healthy",
            "starting",
            "unhealthy",
        ]);
        let image = rng.pick(&[
            "web",
            "team/web:1",
            "localhost:5000/a/b@sha256:00",
            "sha256:00",
            "",
            ":",
            "a/",
            "/",
        ]);
        json!({
            "Id": if rng.one_in(10) { rng.pick(&TEXTS).to_owned() } else { id },
            "Name": if rng.one_in(10) { rng.pick(&TEXTS) } else { "/web-1" },
            "Created": rng.pick(&["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "never", "9999-12-31T23:59:59.999999999+23:59"]),
            "Image": "sha256:00",
            "State": { "Status": status, "Running": true, "Health": { "Status": health } },
            "Config": { "Image": image, "Env": env, "Labels": labels, "ExposedPorts": exposed, "Hostname": "h",
                        "StopSignal": rng.pick(&["SIGTERM", "15", "SIGRTMIN+3", "x"]), "StopTimeout": -1 },
            "HostConfig": { "NetworkMode": mode },
            "NetworkSettings": { "Ports": published, "Networks": { "bridge": { "IPAddress": "172.17.0.2" } } },
        })
    }

    fn write(&mut self, value: &Json) {
        if self.is_changed() {
            return self.write_anything(3);
        }
        match value {
            Json::Object(members) => {
                self.text.push('{');
                for (name, member) in members {
                    if self.is_changed() {
                        continue;
                    }
                    let name = if self.is_changed() {
                        self.rng.pick(&TEXTS)
                    } else {
                        name
                    };
                    self.write_member(name);
                    self.write(member);
                }
                if self.is_changed() {
                    let name = if self.rng.one_in(2) {
                        self.rng.pick(&NAMES)
                    } else {
                        self.rng.pick(&TEXTS)
                    };
                    self.write_member(name);
                    self.write_anything(2);
                }
                self.text.push('}');
            }
            Json::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.text.push(',');
                    }
                    self.write(item);
                }
                self.text.push(']');
            }
            scalar => {
                let _ = write!(self.text, "{scalar}");
            }
        }
    }

    fn write_member(&mut self, name: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        let _ = write!(self.text, "{}:", json!(name));
    }

    fn write_anything(&mut self, depth: usize) {
        match self.rng.below(if depth == 0 { 8 } else { 10 }) {
            0..3 => self.text.push_str(self.rng.pick(&SCALARS)),
            3..7 => {
                let text = self.rng.pick(&TEXTS);
                let _ = write!(self.text, "{}", json!(text));
            }
            7 => {
                let text = self.rng.pick(&TEXTS).repeat(300);
                let _ = write!(self.text, "{}", json!(text));
            }
            8 => {
                self.text.push('[');
                self.write_anything(depth - 1);
                self.text.push(']');
            }
            _ => {
                self.text.push('{');
                let name = if self.rng.one_in(2) {
                    self.rng.pick(&NAMES)
                } else {
                    self.rng.pick(&TEXTS)
                };
                self.write_member(name);
                self.write_anything(depth - 1);
                self.text.push('}');
            }
        }
    }

    fn is_changed(&mut self) -> bool {
        self.rate > 0 && self.rng.one_in(self.rate)
    }
}
