//! The log as JSON, for those who collect it: one object a line, with fields that keep their names.

use crate::common;

use common::{SOON, TestBed, eventually};
use serde_json::Value;

#[test]
fn each_line_is_an_object_with_fields_that_keep_their_names() {
    let bed = TestBed::new();
    let web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish("8005")
        .start();
    let registrar = bed.registrar().flag("--log-format", "json").start();
    eventually(SOON, "the keys", || bed.keys().len() == 2);
    web.stop();
    eventually(SOON, "the end of the keys", || bed.keys().is_empty());
    registrar.terminate();
    let log = registrar.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let key = format!("{}/web/1/{}", bed.prefix, web.short_id());
    let change = |message: &str| {
        let of_key = |line: &&Value| line["message"] == message && line["key"] == *key;
        lines
            .iter()
            .find(of_key)
            .unwrap_or_else(|| panic!("{message} of {key} in {log}"))
    };
    let put = change("put");
    assert_eq!(put["level"], "INFO");
    assert_eq!(put["container"], web.name());
    let address = put["value"].as_str().expect("a value");
    assert!(address.starts_with(common::HOST_IP), "{put}");
    assert_eq!(change("delete")["container"], web.name());
}
