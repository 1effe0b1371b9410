//! The tests of the real program against a real Docker and a real etcd. They are one test program, so that they run
//! concurrently: most of them wait most of the time.

#[path = "../common/mod.rs"]
mod common;

mod authors;
mod bad_input;
mod command_line;
mod diff;
mod docker_access;
mod dry_run;
mod etcd_access;
mod etcd_tls;
mod examples;
mod faults_docker;
mod faults_etcd;
mod identity;
mod image;
mod layout;
mod lifecycle;
mod listen;
mod logs;
mod one_container;
mod operator;
mod readers;
mod readme;
mod reload;
mod replaced;
mod restart;
mod setup;
mod slow_clients;
mod steady;
mod systemd;
mod unit;
