//! The tests of the real program against a real Docker and a real etcd. They are one test program, so that they run
//! concurrently: most of them wait most of the time.

#[path = "../common/mod.rs"]
mod common;

mod alerts;
mod authors;
mod bad_input;
mod checks;
mod collisions;
mod command_line;
mod deb;
mod diff;
mod discover;
mod docker_access;
mod drain;
mod dry_run;
mod envoy;
mod etcd_access;
mod etcd_tls;
mod examples;
mod faults_discover;
mod faults_docker;
mod faults_etcd;
mod identity;
mod image;
mod inputs;
mod large;
mod layout;
mod leases;
mod lifecycle;
mod listen;
mod logs;
mod nginx;
mod odd_answers;
mod one_container;
mod operator;
mod readers;
mod reading_policies;
mod readme;
mod redis;
mod reload;
mod remembered;
mod replaced;
mod restart;
mod scenarios;
mod services;
mod setup;
mod shared_network;
mod slow_clients;
mod steady;
mod systemd;
mod targets;
mod udp;
mod unit;
mod up;
mod ways_to_etcd;
