//! Files with saved containers.

use super::*;

#[test]
fn a_file_that_is_no_json_or_no_list_is_refused() {
    let why = |json: &str| format!("{:#}", read_saved(json).expect_err("refused"));
    assert!(
        why("[").starts_with("not JSON; save the output of `docker inspect $(docker ps -q)`: EOF")
    );
    assert_eq!(
        why("3"),
        "neither a list nor an object; save the output of `docker inspect $(docker ps -q)`"
    );
    assert!(why(" \n").starts_with("it is empty; "));
    assert!(containers(&json!([])).is_empty());
}

#[test]
fn an_odd_saved_container_is_named_with_its_field_and_costs_no_other() {
    let read = |json: &str| {
        let saved = read_saved(json).expect("a file");
        let errors = saved.unreadable.iter().map(|error| format!("{error:#}"));
        let errors: Vec<_> = errors.collect();
        (saved.containers.len(), errors.join("\n"))
    };
    let good = r#"{"Id":"a","Name":"/a"}"#;
    for (odd, why) in [
        (r#"{"Name":"/b"}"#, "container `b`: it has no `Id`"),
        (
            r#"{"Id":"b","Name":"/b","Config":{"Labels":{"x":["y"]}}}"#,
            "container `b`: `Config.Labels.x`: invalid type: sequence, expected a string",
        ),
        (
            r#"{"Id":"b","Name":"/b","NetworkSettings":{"Ports":{"80/tcp":[{"HostPort":true}]}}}"#,
            "container `b`: `NetworkSettings.Ports.80/tcp[0].HostPort`: invalid type: boolean `true`, expected a string",
        ),
        ("[]", "container 2: it has no `Id`"),
    ] {
        let (count, error) = read(&format!("[{good},{odd},{good}]"));
        assert_eq!((count, error.as_str()), (2, why));
    }
    for (other, what) in [
        (
            r#"{"ID":"b","Names":"b","Ports":"80/tcp"}"#,
            "what `docker ps` prints",
        ),
        (r#"{"Id":"b","Names":["/b"]}"#, "what `docker ps` prints"),
        (r#"{"Name":"bridge","Id":"b","IPAM":{}}"#, "a network"),
        (r#"{"Id":"b","RepoTags":[]}"#, "an image"),
    ] {
        let (count, error) = read(&format!("{good}\n{other}"));
        assert_eq!(count, 1);
        assert!(
            error.starts_with(&format!("object 2, which is {what} and not a container; ")),
            "{error}"
        );
    }
}

#[test]
fn saved_containers_may_be_one_a_line_and_begin_with_a_byte_order_mark() {
    let saved = "\u{feff}{\"Id\":\"a\",\"Name\":\"/a\"}\r\n{\"Id\":\"b\",\"Name\":\"/b\"}\r\n";
    assert_eq!(read_saved(saved).expect("a file").containers.len(), 2);
}
